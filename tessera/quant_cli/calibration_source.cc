// Calibration windows from a file or from the model itself.
#include "tessera/quant_cli/calibration_source.h"

#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/engine/self_text.h"
#include "tessera/program/loaded_model.h"

namespace tessera {
namespace {

constexpr int64_t kMaxDefaultTokens = 2048;

CalibrationSet sample_from_model(const std::string& dir, const CalibrationRequest& request, int64_t tokens,
                                 Reporter& reporter) {
  const LoadedModel loaded = load_model(dir);
  const auto bos = loaded.tokenizer->bos_id();
  if (!bos)
    throw Error("{}: the tokenizer names no BOS to begin a sample with; give a text with --calib", dir);
  const SelfTextOptions options{.windows = request.windows, .window = tokens, .seed = request.seed};
  const std::vector<int32_t> ids = sample_text(*loaded.model, *bos, options, reporter);
  CalibrationSet set;
  for (int64_t w = 0; w < request.windows; ++w) {
    set.windows.emplace_back(ids.begin() + w * tokens, ids.begin() + (w + 1) * tokens);
  }
  set.manifest = {
      {"source", "self"}, {"seed", request.seed}, {"windows", request.windows}, {"tokens", tokens}};
  return set;
}

}  // namespace

CalibrationSet make_calibration(const std::string& dir, const CalibrationRequest& request,
                                Reporter& reporter) {
  const int64_t context = make_model_spec(ModelConfig::load(dir)).max_positions;
  if (request.tokens > context)
    throw Error("{}: windows of {} tokens exceed the context of {}", dir, request.tokens, context);
  const int64_t tokens = request.tokens > 0 ? request.tokens : std::min(context, kMaxDefaultTokens);
  if (request.source == "self") return sample_from_model(dir, request, tokens, reporter);
  const std::vector<int32_t> ids = encode_file(*Tokenizer::load(dir), request.source);
  return sample_windows(ids, request.windows, tokens, request.seed, request.source);
}

}  // namespace tessera
