// The plugin around libsentencepiece; see sentencepiece_model.h.
#include <sentencepiece_processor.h>

#include "tessera/base/error.h"
#include "tessera/text/sentencepiece_model.h"

namespace tessera {
namespace {

class Model : public SentencePieceModel {
 public:
  Model(std::string_view bytes, const std::string& file) : file_(file) {
    check(processor_.LoadFromSerializedProto(std::string(bytes)));
  }

  int size() const override { return processor_.GetPieceSize(); }
  std::string piece(int id) const override { return processor_.IdToPiece(id); }
  int id(std::string_view piece) const override { return processor_.PieceToId(std::string(piece)); }
  bool is_control(int id) const override { return processor_.IsControl(id); }
  bool is_unknown(int id) const override { return processor_.IsUnknown(id); }
  int bos_id() const override { return processor_.bos_id(); }
  int eos_id() const override { return processor_.eos_id(); }
  std::vector<int> encode(std::string_view text) const override {
    std::vector<int> ids;
    check(processor_.Encode(std::string(text), &ids));
    return ids;
  }

 private:
  void check(const sentencepiece::util::Status& status) const {
    if (!status.ok()) throw Error("{}: {}", file_, status.ToString());
  }

  std::string file_;
  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace
}  // namespace tessera

extern "C" tessera::SentencePieceModel* tessera_load_sentencepiece(std::string_view bytes,
                                                                   const std::string& file) {
  return new tessera::Model(bytes, file);
}
