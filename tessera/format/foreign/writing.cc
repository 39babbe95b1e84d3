// Groups, checks and settings that writers share.
#include "tessera/format/foreign/writing.h"

#include <algorithm>
#include <optional>

#include "tessera/base/error.h"

namespace tessera::foreign {
namespace {

/// Every value `times` times.
template <class T>
void repeat_each(std::vector<T>& values, int64_t times) {
  std::vector<T> repeated;
  repeated.reserve(values.size() * static_cast<size_t>(times));
  for (T value : values) repeated.insert(repeated.end(), static_cast<size_t>(times), value);
  values = std::move(repeated);
}

}  // namespace

AffineWeights weights_to_write(const QuantizedLinear& linear, const std::string& where,
                               const WriteOptions& options) {
  AffineWeights w = to_affine_weights(linear, where);
  const int64_t size = options.group_size;
  if (size == 0 || size == w.group_size()) return w;
  if (w.group_size() % size != 0)
    throw Error("{}: groups of {} inputs cannot be written as groups of {}", where, w.group_size(), size);
  if (!w.input_group.empty())
    throw Error("{}: its inputs are in groups of {} by an order of their own; leave out --group-size", where,
                w.group_size());
  const int64_t times = w.group_size() / size;
  w.groups *= times;
  repeat_each(w.scales, times);
  repeat_each(w.zeros, times);
  return w;
}

void expect_ordered_inputs(const AffineWeights& w, const char* tool) {
  if (w.input_group.empty()) return;
  throw Error("{}: {} has no place for its order of inputs (act-order); --to gptq has", w.where, tool);
}

void expect_multiple(const AffineWeights& w, const char* what, int64_t extent, int64_t multiple) {
  if (extent % multiple == 0) return;
  throw Error("{}: {} {} are no multiple of {}, which the format needs", w.where, extent, what, multiple);
}

void expect_4_bits(const AffineWeights& w, const char* tool) {
  if (w.bits == 4) return;
  throw Error(
      "{}: {} holds codes of 4 bits, the layer has {}; --to compressed-tensors, gptq or gguf hold them",
      w.where, tool, w.bits);
}

bool is_symmetric(const AffineWeights& w) {
  return std::ranges::all_of(w.zeros, [&](uint8_t zero) { return zero == w.middle(); });
}

Tensor transposed_scales(const AffineWeights& w, Narrowing& narrowing) {
  Tensor scales(DType::kF16, {w.groups, w.n});
  const auto out = scales.as<Half>();
  for (int64_t n = 0; n < w.n; ++n) {
    for (int64_t g = 0; g < w.groups; ++g) {
      out[static_cast<size_t>(g * w.n + n)] =
          narrowing.scale<Half>(w.scales[static_cast<size_t>(n * w.groups + g)], n, g);
    }
  }
  return scales;
}

std::string describe(const AffineWeights& w) {
  std::string text = fmt::format("{} bits", w.bits);
  text += w.groups == 1 ? " per channel" : fmt::format(" g{}", w.group_size());
  if (!is_symmetric(w)) text += ", zero points";
  if (!w.input_group.empty()) text += ", act-order";
  return text;
}

nlohmann::json group_scheme(const AffineWeights& w) {
  return {{"group_size", w.group_size()}, {"inputs", w.k}};
}

int64_t common_group_size(const std::vector<LinearScheme>& linears) {
  std::optional<int64_t> size;  // where an output has several groups
  const LinearScheme* ungrouped = nullptr;
  for (const LinearScheme& linear : linears) {
    if (linear.scheme.is_null()) continue;
    const auto own = linear.scheme.at("group_size").get<int64_t>();
    if (own == linear.scheme.at("inputs")) {
      ungrouped = &linear;
    } else if (size.value_or(own) != own) {
      throw Error("{}: has groups of {} inputs, others of {}; --group-size writes all alike", linear.name,
                  own, *size);
    } else {
      size = own;
    }
  }
  if (ungrouped && size && ungrouped->scheme.at("inputs") != *size) {
    throw Error("{}: has one scale an output, others one a group of {}; --group-size {} writes all alike",
                ungrouped->name, *size, *size);
  }
  return size.value_or(-1);
}

std::vector<std::string> float_linears(const std::vector<LinearScheme>& linears) {
  std::vector<std::string> names;
  for (const LinearScheme& linear : linears) {
    if (linear.scheme.is_null()) names.push_back(linear.name);
  }
  return names;
}

}  // namespace tessera::foreign
