// A reader of the few Protocol Buffers messages that matter: sentencepiece_model.proto.
#include "tessera/source/sentencepiece_reader.h"

#include <bit>

#include "tessera/base/error.h"
#include "tessera/source/protobuf_parser.h"

namespace tessera {
namespace {

SentencePiece read_piece(std::string_view bytes, const std::string& file) {
  SentencePiece piece;
  ProtobufParser parser(bytes, file);
  parser.fields([&](const ProtobufField& field) {
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
  ProtobufParser(bytes, file).fields([&](const ProtobufField& field) {
    if (field.number == 3) type = field.value;
    if (field.number == 41) vocabulary.bos = static_cast<int32_t>(field.value);
    if (field.number == 42) vocabulary.eos = static_cast<int32_t>(field.value);
    if (field.number == 43) vocabulary.padding = static_cast<int32_t>(field.value);
  });
  if (type != kBpe) throw Error("{}: is of type {}; only BPE ({}) is supported", file, type, kBpe);
}

void read_normalizer(std::string_view bytes, const std::string& file, SentencePieceVocabulary& vocabulary) {
  bool changes = false, trims = true;
  ProtobufParser(bytes, file).fields([&](const ProtobufField& field) {
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
  ProtobufParser parser(bytes, file);
  parser.fields([&](const ProtobufField& field) {
    if (field.number == 1) vocabulary.pieces.push_back(read_piece(field.bytes, file));
    if (field.number == 2) read_trainer(field.bytes, file, vocabulary);
    if (field.number == 3) read_normalizer(field.bytes, file, vocabulary);
  });
  if (vocabulary.pieces.empty()) parser.fail();
  return vocabulary;
}

}  // namespace tessera
