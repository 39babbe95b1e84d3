// The SentencePiece library behind an interface. libsentencepiece carries a private, older copy of Protocol
// Buffers whose symbols clash with those that libtorch uses, so it is loaded when it is needed, as a plugin
// in a symbol scope of its own.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

/// A tokenizer.model. Immutable: any number of threads may use one at the same time.
class SentencePieceModel {
 public:
  virtual ~SentencePieceModel() = default;

  /// From the content of a file, whose name opens messages. Throws Error when it is no SentencePiece model or
  /// the plugin cannot be loaded.
  static std::unique_ptr<SentencePieceModel> load(std::string_view bytes, const std::string& file);

  virtual int size() const = 0;
  virtual std::string piece(int id) const = 0;
  /// The id of the unknown token for pieces that the vocabulary lacks.
  virtual int id(std::string_view piece) const = 0;
  virtual bool is_control(int id) const = 0;
  virtual bool is_unknown(int id) const = 0;
  virtual int bos_id() const = 0;  ///< -1: none
  virtual int eos_id() const = 0;  ///< -1: none
  virtual std::vector<int> encode(std::string_view text) const = 0;
};

}  // namespace tessera
