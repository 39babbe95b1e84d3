// Text to token ids and back, as Hugging Face tokenizers do it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

/// A tokenizer. Immutable once loaded: any number of threads may use one at the same time.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Reads tokenizer.json of a model (a Hugging Face folder or a GGUF file), or tokenizer.model
  /// (SentencePiece) where that is absent, and the names of the special tokens from tokenizer_config.json or
  /// special_tokens_map.json. Throws Error, naming the file and the place in it, when a file is broken or
  /// asks for a component that is not supported.
  static std::unique_ptr<Tokenizer> load(const std::filesystem::path& model);

  /// Text to ids. Special tokens that are written in the text are matched as such. With `add_special_tokens`
  /// the BOS and EOS of the post-processor are added. Invalid UTF-8 is read as U+FFFD. Nothing is truncated.
  virtual std::vector<int32_t> encode(std::string_view text, bool add_special_tokens) const = 0;

  /// Ids to text, always valid UTF-8. Ids that stand for no token, such as those of a padded embedding, are
  /// left out, and with `skip_special` the special tokens too.
  virtual std::string decode(std::span<const int32_t> ids, bool skip_special) const = 0;

  /// Highest id + 1.
  virtual int32_t vocab_size() const = 0;

  /// The id of a token as the vocabulary spells it, such as "<|eot_id|>".
  virtual std::optional<int32_t> token_id(std::string_view token) const = 0;

  /// The id of a special token, which decoding with skip_special leaves out; nothing for other texts.
  std::optional<int32_t> special_id(std::string_view token) const;
  /// Whether encode() with special tokens begins with bos_id().
  bool adds_bos() const;

  /// The ids that begin a text and end a generation, where the tokenizer's own files name them. A model's
  /// generation_config.json may name more ends.
  std::optional<int32_t> bos_id() const { return bos_id_; }
  std::optional<int32_t> eos_id() const { return eos_id_; }

 protected:
  std::optional<int32_t> bos_id_, eos_id_;
};

/// Turns a stream of ids into a stream of text. What push() and finish() return, strung together, is decode()
/// of all the ids; it may differ only in bytes that are not valid UTF-8 as a whole, of which valid parts are
/// out before the first wrong byte comes.
class StreamDecoder {
 public:
  /// `tokenizer` must outlive the decoder.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  /// The text that has become certain with `id`; often empty, never a part of a UTF-8 sequence.
  std::string push(int32_t id);
  /// What is still held back. The decoder is then as new.
  std::string finish();

 private:
  std::string pending_text() const;

  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::vector<int32_t> context_;  ///< the last ids whose text is out: what follows depends on them
  std::vector<int32_t> pending_;  ///< ids whose text is held back
};

}  // namespace tessera
