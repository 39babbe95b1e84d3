// QQQ checkpoints, as QQQ's own program and GPTQModel read them.
#include <array>

#include "tessera/format/foreign/qqq_layout.h"
#include "tessera/format/foreign/writing.h"

namespace tessera::foreign {
namespace {

using namespace qqq;

constexpr int64_t kGroup = 128;

void check(const QuantizedLinear& linear, const AffineWeights& w) {
  const auto refuse = [&](const char* what) { throw Error("{}: QQQ {}", w.where, what); };
  expect_4_bits(w, "qqq");
  expect_ordered_inputs(w, "qqq");
  if (linear.activation != ActivationFormat{}) {
    refuse(
        "quantizes inputs to 8 bits a token, symmetric; --to compressed-tensors holds floats, 4 bits and "
        "static scales");
  }
  if (!is_symmetric(w)) refuse("has no zero points; --to gptq_v2, awq or gguf:q4_k hold them");
  if (linear.weight_format == WeightFormat::kUint4Float)
    refuse("multiplies integer group scales; --to gptq holds float ones");
  if (linear.group_size != 0 && linear.group_size != kGroup)
    refuse("has one scale an output or a group of 128 inputs");
  const bool tiles = w.k % 64 == 0 && w.n % 64 == 0 && (w.k % 128 == 0 || w.n % 128 == 0);
  if (!tiles) {
    throw Error("{}: {} outputs of {} inputs: QQQ needs multiples of 64, and of 128 in one of the two",
                w.where, w.n, w.k);
  }
}

/// "B"
Tensor packed_codes(const AffineWeights& w, bool grouped) {
  const int flip = grouped ? 0 : 8;  // one scale an output: two's complement
  std::array<int, 8> shifts;
  for (int i = 0; i < 8; ++i)
    shifts[static_cast<size_t>(i)] = 4 * code_position(i % 4, i / 4 * 8, grouped).nibble;
  Tensor packed(DType::kI32, {w.k / 16, 2 * w.n});
  const auto words = packed.as<int32_t>();
  parallel_blocks(w.k, [&](int64_t begin, int64_t end) {
    for (int64_t n = 0; n < w.n;
         n += n % 8 == 7 ? 9 : 1) {  // a word holds inputs k .. k + 3 of outputs n, n + 8
      for (int64_t k = begin; k < end; k += 4) {
        uint32_t word = 0;
        for (int64_t i = 0; i < 8; ++i) {
          const auto code = static_cast<uint32_t>(code_at(w, n + i / 4 * 8, k + i % 4) ^ flip);
          word |= code << shifts[static_cast<size_t>(i)];
        }
        const CodePosition at = code_position(k, n, grouped);
        words[static_cast<size_t>(at.row * 2 * w.n + at.word)] = static_cast<int32_t>(word);
      }
    }
  });
  return packed;
}

/// "s_group"
Tensor group_scales(const QuantizedLinear& linear) {
  Tensor scales(DType::kF16, {linear.groups(), linear.n});
  for (int64_t n = 0; n < linear.n; ++n) {
    for (int64_t g = 0; g < linear.groups(); ++g) {
      const int scale = linear.group_scale.as<int8_t>()[static_cast<size_t>(n * linear.groups() + g)];
      scales.as<Half>()[static_cast<size_t>(g * linear.n + group_scale_column(n))] =
          to_half(static_cast<float>(scale));
    }
  }
  return scales;
}

}  // namespace

WrittenLinear write_qqq(const QuantizedLinear& linear, const std::string& where,
                        const WriteOptions& options) {
  const AffineWeights w = weights_to_write(linear, where, {});
  if (options.group_size != 0 && options.group_size != w.group_size())
    throw Error("{}: qqq keeps the groups as they are; leave out --group-size", where);
  check(linear, w);
  const bool grouped = linear.group_size > 0;
  Narrowing narrowing(where, options.round);
  Tensor channel(DType::kF32, {1, w.n});
  for (int64_t n = 0; n < w.n; ++n) {
    // The kernel for one scale an output multiplies 16 times the code.
    const double scale = double{linear.scale.as<float>()[static_cast<size_t>(n)]} / (grouped ? 1 : 16);
    channel.as<float>()[static_cast<size_t>(channel_scale_column(n))] = narrowing.scale<float>(scale, n, 0);
  }
  WrittenLinear out;
  out.tensors.emplace_back("B", packed_codes(w, grouped));
  out.tensors.emplace_back("s_channel", std::move(channel));
  if (grouped) out.tensors.emplace_back("s_group", group_scales(linear));
  out.scheme = group_scheme(w);
  out.form = describe(w);
  out.rounding = narrowing.rounding();
  return out;
}

nlohmann::json qqq_config(const std::vector<LinearScheme>& linears) {
  if (const auto floats = float_linears(linears); !floats.empty())
    throw Error("{}: is not quantized, and QQQ's settings have no place for that", floats[0]);
  return {{"quant_method", "qqq"},
          {"bits", 4},
          {"wbits", 4},
          {"group_size", common_group_size(linears)},
          {"desc_act", false},
          {"sym", true},
          {"checkpoint_format", "qqq"}};
}

}  // namespace tessera::foreign
