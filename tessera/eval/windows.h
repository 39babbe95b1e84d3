// How a long text becomes windows of predictions: the protocols of perplexity.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "tessera/arch/model_spec.h"

namespace tessera {

/// kGptq (GPTQ, QQQ and most papers): the text is tokenized once, with a single BOS; disjoint windows; every
/// id of a window but the first is predicted. kLlamaCpp (llama.cpp's perplexity tool): BOS replaces the first
/// id of each window; only the second half is predicted. Numbers of the two must not be compared.
enum class Protocol : uint8_t { kGptq, kLlamaCpp };
/// "gptq", "llama.cpp"
std::string_view name_of(Protocol protocol);
/// The inverse. Throws Error listing the names.
Protocol protocol_from_name(std::string_view name);
/// "one BOS at the start of the text", "BOS in every window"; "no BOS" without `bos`.
std::string_view bos_policy(Protocol protocol, bool bos);

struct WindowOptions {
  Protocol protocol = Protocol::kGptq;
  int64_t window =
      0;  ///< ids; 0: the model's context, at most 2048 as in the papers (kGptq), or 512 (kLlamaCpp)
  int64_t max_windows = 0;  ///< 0: all
};

/// Consecutive windows of a text; ids left over at its end are dropped.
struct Windows {
  Protocol protocol = Protocol::kGptq;
  bool bos = false;               ///< whether the tokenizer puts a BOS in front of texts
  int64_t length = 0;             ///< ids a window
  int64_t first_predicted = 1;    ///< the ids first_predicted .. length - 1 of each window are predicted
  std::vector<int32_t> ids = {};  ///< [count() * length]

  int64_t count() const { return static_cast<int64_t>(ids.size()) / length; }
  int64_t predictions_per_window() const { return length - first_predicted; }
  std::span<const int32_t> operator[](int64_t i) const {
    return std::span(ids).subspan(static_cast<size_t>(i * length), static_cast<size_t>(length));
  }
};

/// Ids of a text that cut_windows looks at; 0: all.
int64_t ids_wanted(const WindowOptions& options, const ModelSpec& spec);

/// Cuts `ids`, a tokenized text, for the model of `spec`. `bos` is the id that the tokenizer has put in front
/// of it and kLlamaCpp puts in front of every window, as llama.cpp does; nothing where the tokenizer adds
/// none. Throws Error when the text is shorter than a window or a window does not fit in the model's context.
Windows cut_windows(std::span<const int32_t> ids, const WindowOptions& options, const ModelSpec& spec,
                    std::optional<int32_t> bos);

}  // namespace tessera
