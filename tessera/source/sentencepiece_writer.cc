// A writer of the few Protocol Buffers messages that a SentencePiece model consists of.
#include "tessera/source/sentencepiece_writer.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

namespace tessera {
namespace {

/// A message under construction: fields by their numbers.
class Message {
 public:
  void number(uint32_t field, int64_t value) {
    key(field, kVarint);
    varint(static_cast<uint64_t>(value));
  }
  void real(uint32_t field, float value) {
    key(field, kFixed32);
    const auto bits = std::bit_cast<uint32_t>(value);
    char bytes[sizeof bits];
    std::memcpy(bytes, &bits, sizeof bits);
    bytes_.append(bytes, sizeof bytes);
  }
  void text(uint32_t field, std::string_view value) {
    key(field, kBytes);
    varint(value.size());
    bytes_ += value;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  static constexpr uint32_t kVarint = 0, kBytes = 2, kFixed32 = 5;

  void key(uint32_t field, uint32_t wire_type) { varint(field << 3 | wire_type); }
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

}  // namespace

std::string write_sentencepiece(const SentencePieceVocabulary& vocabulary) {
  constexpr int64_t kBpe = 2;
  const auto has = [&](PieceType type) {
    return std::ranges::find(vocabulary.pieces, type, &SentencePiece::type) != vocabulary.pieces.end();
  };
  Message model;
  for (const SentencePiece& piece : vocabulary.pieces) {
    Message m;
    m.text(1, piece.text);
    m.real(2, piece.score);
    m.number(3, static_cast<int64_t>(piece.type));
    model.text(1, m.bytes());
  }
  Message trainer;
  trainer.number(3, kBpe);
  trainer.number(4, static_cast<int64_t>(vocabulary.pieces.size()));
  trainer.number(35, has(PieceType::kByte));
  struct Special {
    uint32_t id_field, text_field;
    int32_t id;
  };
  for (const auto& [id_field, text_field, id] :
       {Special{41, 46, vocabulary.bos}, Special{42, 47, vocabulary.eos},
        Special{43, 48, vocabulary.padding}}) {
    trainer.number(id_field, id);
    if (id >= 0) trainer.text(text_field, vocabulary.pieces[static_cast<size_t>(id)].text);
  }
  model.text(2, trainer.bytes());
  Message normalizer;
  normalizer.text(1, "identity");
  normalizer.number(3, vocabulary.add_space_prefix);
  normalizer.number(4, 0);  // blanks are kept
  normalizer.number(5, 1);  // and become U+2581
  model.text(3, normalizer.bytes());
  return model.bytes();
}

}  // namespace tessera
