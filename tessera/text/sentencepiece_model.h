// The SentencePiece library behind an interface. Debian's build of it carries a private, older copy of
// Protocol Buffers whose symbols clash with those of libtorch, so it is loaded when it is needed and into a
// scope of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tessera {

/// A tokenizer.model. Immutable: any number of threads may use one at the same time.
class SentencePieceModel {
 public:
  virtual ~SentencePieceModel() = default;
  virtual std::vector<int32_t> encode(const std::string& text) const = 0;
  virtual int32_t size() const = 0;
  virtual std::string piece(int32_t id) const = 0;
  /// The id of the unknown token for pieces that the vocabulary lacks.
  virtual int32_t id(const std::string& piece) const = 0;
  virtual bool is_control(int32_t id) const = 0;
  virtual bool is_unknown(int32_t id) const = 0;
  virtual int32_t bos_id() const = 0;  ///< -1: none
  virtual int32_t eos_id() const = 0;  ///< -1: none
};

/// `bytes` is the content of the file. Throws Error, with `path` in front, when it is no SentencePiece model
/// or the library cannot be loaded.
std::unique_ptr<SentencePieceModel> load_sentencepiece_model(const std::string& bytes,
                                                             const std::string& path);

/// The one symbol of the loaded module: a model, or null with the reason in `error`.
using MakeSentencePieceModel = SentencePieceModel* (*)(const std::string& bytes, std::string& error);

}  // namespace tessera
