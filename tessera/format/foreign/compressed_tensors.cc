// compressed-tensors checkpoints (LLM Compressor, AutoRound, vLLM's).
#include <algorithm>
#include <memory>
#include <tuple>

#include "tessera/format/foreign/compressed_tensors_config.h"
#include "tessera/format/foreign/packed_fields.h"
#include "tessera/format/foreign/readers.h"
#include "tessera/format/foreign/stored_linear.h"

namespace tessera::foreign {
namespace {

using Scheme = CompressedTensorsScheme;

/// Codes q + 2^(bits - 1), and sizes.
void read_packed_codes(const StoredLinear& stored, AffineWeights& w) {
  const auto [outputs, words] = stored.matrix("weight_packed");
  const auto shape = stored.values<int64_t>("weight_shape", {2});
  w.n = outputs;
  w.k = shape[1];
  if (shape[0] != w.n || w.k < 1 || w.k > words * 32 || PackedFields::words(w.k, w.bits) != words) {
    throw Error("{}.weight_shape: [{}, {}] does not fit weight_packed {} of {} bits", w.where, shape[0],
                shape[1], to_string({outputs, words}), w.bits);
  }
  const auto codes = stored.values<int32_t>("weight_packed", {outputs, words});
  fill_codes(
      w, [&, words = words](int64_t n, int64_t k) { return PackedFields(codes, n * words, 1, w.bits)[k]; });
}

/// The same from int8, whose upper bits repeat the sign.
void read_byte_codes(const StoredLinear& stored, AffineWeights& w) {
  std::tie(w.n, w.k) = stored.matrix("weight");
  const auto codes = stored.values<int8_t>("weight", {w.n, w.k});
  const int half = w.middle();
  for (int code : codes) {
    if (code < -half || code >= half)
      throw Error("{}.weight: {} is no code of {} bits", w.where, code, w.bits);
  }
  fill_codes(w, [&](int64_t n, int64_t k) {
    return static_cast<uint8_t>(codes[static_cast<size_t>(n * w.k + k)] + half);
  });
}

/// One for every row and group; a scale of the whole tensor is repeated.
void read_scales(const StoredLinear& stored, const Scheme& scheme, AffineWeights& w) {
  if (scheme.group_size > 0) {
    if (w.k % scheme.group_size != 0)
      throw Error("{}: groups of {} do not divide {} inputs", w.where, scheme.group_size, w.k);
    w.groups = w.k / scheme.group_size;
  }
  const bool one = stored.at("weight_scale").size() == 1 && scheme.group_size == 0;
  const auto scales =
      stored.floats("weight_scale", one ? stored.at("weight_scale").shape : Shape{w.n, w.groups});
  w.scales.assign(scales.begin(), scales.end());
  if (one) w.scales.resize(static_cast<size_t>(w.n), w.scales[0]);
}

/// Some files of symmetric weights hold zero points, too; they must then be the middle code.
void read_zeros(const StoredLinear& stored, const Scheme& scheme, AffineWeights& w) {
  if (scheme.symmetric && !stored.has("weight_zero_point")) return;
  if (stored.at("weight_zero_point").dtype == DType::kI32) {
    const Shape shape = {PackedFields::words(w.n, w.bits), w.groups};
    const auto zeros = stored.values<int32_t>("weight_zero_point", shape);
    fill_zeros(w, [&](int64_t n, int64_t g) { return PackedFields(zeros, g, w.groups, w.bits)[n]; });
  } else {
    const auto zeros = stored.values<int8_t>("weight_zero_point", {w.n, w.groups});
    fill_zeros(w, [&](int64_t n, int64_t g) {
      return static_cast<uint8_t>(zeros[static_cast<size_t>(n * w.groups + g)] + w.middle());
    });
  }
  const auto is_middle = [&](uint8_t zero) { return zero == w.middle(); };
  if (scheme.symmetric && !std::ranges::all_of(w.zeros, is_middle))
    throw Error("{}.weight_zero_point: holds zero points, but config.json says symmetric: true", w.where);
}

QuantizedLinear read(const Scheme& scheme, const StoredLinear& stored) {
  AffineWeights w{.where = stored.where(), .bits = scheme.bits};
  if (scheme.packed) {
    read_packed_codes(stored, w);
  } else {
    read_byte_codes(stored, w);
  }
  read_scales(stored, scheme, w);
  read_zeros(stored, scheme, w);
  if (stored.has("weight_g_idx")) {
    const auto groups = stored.values<int32_t>("weight_g_idx", {w.k});
    w.input_group.assign(groups.begin(), groups.end());
  } else if (scheme.act_order && w.groups > 1) {
    throw Error("{}: weight_g_idx is missing, but config.json says actorder: group", w.where);
  }
  QuantizedLinear linear = to_quantized_linear(std::move(w), scheme.activation);
  linear.bias = stored.bias(linear.n);
  if (!scheme.activation.per_token)
    linear.input_scale = Tensor::from<float>(stored.floats("input_scale", {1}), {1});
  return linear;
}

}  // namespace

LinearReader compressed_tensors_reader(const JsonNode& section) {
  const auto config = std::make_shared<const CompressedTensorsConfig>(section);
  return [config](const Checkpoint& checkpoint, const std::string& prefix) {
    const StoredLinear stored(checkpoint, prefix);
    if (const Scheme* scheme = config->scheme_of(prefix)) return read(*scheme, stored);
    throw Error("{}: holds codes, but config.json's quantization_config does not target it", stored.where());
  };
}

}  // namespace tessera::foreign
