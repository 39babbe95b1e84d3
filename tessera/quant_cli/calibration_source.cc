// Calibration windows from a file or from the model itself.
#include "tessera/quant_cli/calibration_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "tessera/base/cpu_info.h"
#include "tessera/base/error.h"
#include "tessera/engine/self_text.h"
#include "tessera/program/loaded_model.h"
#include "tessera/program/terminal.h"
#include "tessera/program/text_file.h"

namespace tessera {
namespace {

/// What is asked for where nothing is said.
struct Defaults {
  int64_t windows, most_tokens;
};
constexpr Defaults kOfText{128, 2048};
constexpr Defaults kOfSelf{16, 512};  ///< minutes for a model of 135 M parameters on two cores

TokenWindows sample_windows_of(const std::string& dir, const SelfTextOptions& options, Reporter& reporter) {
  Reporter silent;  // the run has said what is to be said about the model
  const LoadedModel loaded = load_model(dir, DeviceOption(), silent);
  const auto bos = loaded.tokenizer->bos_id();
  if (!bos)
    throw Error("{}: the tokenizer names no BOS to begin a sample with; give a text with --calib", dir);
  reporter.note(fmt::format(
      "sampling {} windows of {} tokens from the model, about {}; --calib FILE saves that time",
      options.windows, options.window, format_duration(sampling_seconds(*loaded.model, *bos, options))));
  const std::vector<int32_t> ids = sample_text(*loaded.model, *bos, options, reporter);
  TokenWindows windows;
  for (int64_t w = 0; w < options.windows; ++w) {
    windows.emplace_back(ids.begin() + w * options.window, ids.begin() + (w + 1) * options.window);
  }
  return windows;
}

/// Before any text is read: the two activation streams alone must fit. In floating point, where nothing
/// overflows.
void check_fits(int64_t windows, int64_t tokens, int64_t hidden_size) {
  const double bytes = 2.0 * sizeof(float) * static_cast<double>(windows) * static_cast<double>(tokens) *
                       static_cast<double>(hidden_size);
  const auto available = static_cast<double>(available_memory());
  if (available == 0 || bytes <= available) return;
  throw Error(
      "{} calibration windows of {} tokens need {:.0f} MB of memory, {:.0f} MB are available; use fewer",
      windows, tokens, bytes / 1e6, available / 1e6);
}

/// The windows are sampled when a run first asks for them, and kept for the next.
CalibrationSet sampled_from_model(const std::string& dir, const SelfTextOptions& options) {
  if (options.window < 2)
    throw Error("windows of {} token cannot be sampled; ask for at least 2", options.window);
  const auto kept = std::make_shared<TokenWindows>();
  const auto sample = [dir, options, kept](Reporter& reporter) {
    if (kept->empty()) *kept = sample_windows_of(dir, options, reporter);
    return *kept;
  };
  CalibrationSet set;
  set.sampler = CalibrationSampler{options.windows, options.window, sample};
  set.manifest = {
      {"source", "self"}, {"seed", options.seed}, {"windows", options.windows}, {"tokens", options.window}};
  return set;
}

}  // namespace

CalibrationSet make_calibration(const std::string& dir, const CalibrationRequest& request) {
  const ModelSpec spec = make_model_spec(ModelConfig::load(dir));
  const int64_t context = spec.max_positions;
  if (request.tokens > context)
    throw Error("{}: windows of {} tokens exceed the context of {}", dir, request.tokens, context);
  const bool self = request.source == "self";
  const Defaults& defaults = self ? kOfSelf : kOfText;
  const int64_t windows = request.windows > 0 ? request.windows : defaults.windows,
                tokens = request.tokens > 0 ? request.tokens : std::min(context, defaults.most_tokens);
  check_fits(windows, tokens, spec.hidden_size);
  if (self) return sampled_from_model(dir, {.windows = windows, .window = tokens, .seed = request.seed});
  const std::vector<int32_t> ids = encode_file(*Tokenizer::load(dir), request.source);
  return sample_windows(ids, windows, tokens, request.seed, request.source);
}

}  // namespace tessera
