// A reader of the few Protocol Buffers messages that matter: sentencepiece_model.proto.
#include "tessera/source/sentencepiece_reader.h"

#include <bit>
#include <cstring>
#include <functional>

#include "tessera/base/error.h"

namespace tessera {
namespace {

struct Field {
  uint64_t number = 0, value = 0;  ///< value: of varints and fixed numbers
  std::string_view bytes = {};     ///< of strings and messages
};

class Parser {
 public:
  Parser(std::string_view rest, const std::string& file) : rest_(rest), file_(file) {}

  /// Calls `body` with every field.
  void fields(const std::function<void(const Field&)>& body) {
    while (!rest_.empty()) {
      const uint64_t key = varint();
      Field field{.number = key >> 3};
      switch (key & 7) {
        case 0:
          field.value = varint();
          break;
        case 1:
          field.value = fixed<uint64_t>();
          break;
        case 2:
          field.bytes = take(varint());
          break;
        case 5:
          field.value = fixed<uint32_t>();
          break;
        default:
          fail();
      }
      body(field);
    }
  }

  [[noreturn]] void fail() const { throw Error("{}: is no SentencePiece model, or is damaged", file_); }

 private:
  std::string_view take(uint64_t count) {
    if (count > rest_.size()) fail();
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  template <class T>
  T fixed() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      value |= uint64_t{byte & 127u} << shift;
      if (byte < 128) return value;
    }
    fail();
  }

  std::string_view rest_;
  const std::string& file_;
};

SentencePiece read_piece(std::string_view bytes, const std::string& file) {
  SentencePiece piece;
  Parser parser(bytes, file);
  parser.fields([&](const Field& field) {
    if (field.number == 1) piece.text = field.bytes;
    if (field.number == 2) piece.score = std::bit_cast<float>(static_cast<uint32_t>(field.value));
    if (field.number != 3) return;
    if (field.value < 1 || field.value > 6) parser.fail();
    piece.type = static_cast<PieceType>(field.value);
  });
  return piece;
}

void read_trainer(std::string_view bytes, const std::string& file, SentencePieceVocabulary& vocabulary) {
  constexpr uint64_t kUnigram = 1, kBpe = 2;
  uint64_t type = kUnigram;
  Parser(bytes, file).fields([&](const Field& field) {
    if (field.number == 3) type = field.value;
    if (field.number == 41) vocabulary.bos = static_cast<int32_t>(field.value);
    if (field.number == 42) vocabulary.eos = static_cast<int32_t>(field.value);
    if (field.number == 43) vocabulary.padding = static_cast<int32_t>(field.value);
  });
  if (type != kBpe) throw Error("{}: is of type {}; only BPE ({}) is supported", file, type, kBpe);
}

void read_normalizer(std::string_view bytes, const std::string& file, SentencePieceVocabulary& vocabulary) {
  bool changes = false, trims = true;
  Parser(bytes, file).fields([&](const Field& field) {
    if (field.number == 2) changes = !field.bytes.empty();
    if (field.number == 3) vocabulary.add_space_prefix = field.value != 0;
    if (field.number == 4) trims = field.value != 0;
  });
  if (changes || trims)
    throw Error("{}: its normalizer {}, which is not supported", file,
                changes ? "changes characters" : "takes blanks away");
}

}  // namespace

SentencePieceVocabulary read_sentencepiece(std::string_view bytes, const std::string& file) {
  SentencePieceVocabulary vocabulary{.bos = 1, .eos = 2};  // where the file is silent
  Parser parser(bytes, file);
  parser.fields([&](const Field& field) {
    if (field.number == 1) vocabulary.pieces.push_back(read_piece(field.bytes, file));
    if (field.number == 2) read_trainer(field.bytes, file, vocabulary);
    if (field.number == 3) read_normalizer(field.bytes, file, vocabulary);
  });
  if (vocabulary.pieces.empty()) parser.fail();
  return vocabulary;
}

}  // namespace tessera
