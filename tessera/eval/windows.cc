// The protocols of perplexity.
#include "tessera/eval/windows.h"

#include <algorithm>

#include "tessera/base/error.h"

namespace tessera {

std::string_view name_of(Protocol protocol) {
  return protocol == Protocol::kGptq ? "gptq" : "llama.cpp";
}

Protocol protocol_from_name(std::string_view name) {
  for (Protocol protocol : {Protocol::kGptq, Protocol::kLlamaCpp}) {
    if (name == name_of(protocol)) return protocol;
  }
  throw Error("protocol '{}' is not known (gptq and llama.cpp are)", name);
}

std::string_view bos_policy(Protocol protocol, bool bos) {
  if (!bos) return "no BOS";
  return protocol == Protocol::kGptq ? "one BOS at the start of the text" : "BOS in every window";
}

namespace {

int64_t window_length(const WindowOptions& options, const ModelSpec& spec) {
  if (options.window > 0) return options.window;
  return std::min<int64_t>(options.protocol == Protocol::kLlamaCpp ? 512 : 2048, spec.max_positions);
}

}  // namespace

int64_t ids_wanted(const WindowOptions& options, const ModelSpec& spec) {
  int64_t ids = 0;
  const bool all = options.max_windows == 0 ||
                   __builtin_mul_overflow(options.max_windows, window_length(options, spec), &ids);
  return all ? 0 : ids;
}

Windows cut_windows(std::span<const int32_t> ids, const WindowOptions& options, const ModelSpec& spec,
                    std::optional<int32_t> bos) {
  const bool llama_cpp = options.protocol == Protocol::kLlamaCpp;
  Windows windows{
      .protocol = options.protocol, .bos = bos.has_value(), .length = window_length(options, spec)};
  if (windows.length < 4 || windows.length > spec.max_positions) {
    throw Error("windows of {} tokens are not possible: at least 4, at most the model's context of {}",
                windows.length, spec.max_positions);
  }
  windows.first_predicted = llama_cpp ? windows.length / 2 + 1 : 1;

  int64_t count = static_cast<int64_t>(ids.size()) / windows.length;
  if (count == 0) {
    throw Error("the text has {} tokens, fewer than one window of {}; give a longer text or a smaller window",
                ids.size(), windows.length);
  }
  if (options.max_windows > 0) count = std::min(count, options.max_windows);
  const auto used = ids.first(static_cast<size_t>(count * windows.length));
  windows.ids.assign(used.begin(), used.end());
  if (llama_cpp && bos) {
    for (int64_t i = 0; i < count; ++i) windows.ids[static_cast<size_t>(i * windows.length)] = *bos;
  }
  return windows;
}

}  // namespace tessera
