// Quantized linears as other tools store them. One file a tool; quantization_config.cc lists them.
#pragma once

#include <functional>
#include <string>

#include "tessera/base/json_node.h"
#include "tessera/format/quantized_linear.h"

namespace tessera {

/// Reads the linear PREFIX of a checkpoint: the same real weights, and the format of its input. To be
/// validated. Throws Error (folder, tensor) when a tensor is absent, of another shape or type, or holds what
/// has no exact form here.
using LinearReader = std::function<QuantizedLinear(const Checkpoint& checkpoint, const std::string& prefix)>;

}  // namespace tessera

/// A reader for what "quantization_config" says. They throw Error (file, key) for what they do not know.
namespace tessera::foreign {

/// AutoAWQ's "gemm" layout: 4 bits, floats as input. PREFIX.qweight I32 [K, N / 8], .qzeros I32 [G, N / 8],
/// .scales [G, N].
LinearReader awq_reader(const JsonNode& config);

/// compressed-tensors: codes of 2 to 8 bits, packed or one a byte, one scale a tensor, output or group, with
/// or without zero points; inputs as floats, as 8- or 4-bit codes for each token or with one static scale of
/// 8 bits. PREFIX.weight_packed I32 [N, ceil(K bits / 32)] and .weight_shape I64 [2], or .weight I8 [N, K];
/// .weight_scale [N, G]; .weight_zero_point; .weight_g_idx I32 [K]; .input_scale [1].
LinearReader compressed_tensors_reader(const JsonNode& config);

/// Linears of a GGUF file in Q4_0: 4-bit codes with a float16 scale for 32 inputs, floats as input.
LinearReader gguf_reader(const JsonNode& config);

/// GPTQ, zero points in the first and the second convention, with or without act-order: 2, 3, 4 or 8 bits,
/// floats as input. PREFIX.qweight I32 [K bits / 32, N], .qzeros I32 [G, N bits / 32], .scales [G, N], .g_idx
/// I32 [K].
LinearReader gptq_reader(const JsonNode& config);

/// QQQ's own program and GPTQModel: 4-bit codes, 8-bit codes for each token. PREFIX.B, .s_channel, .s_group
/// (see qqq_layout.h), N a multiple of 64, K of 16:
///   one scale an output   int4; s_channel holds a 16th of the scale
///   integer group scales  uint4 in groups, as they are
///   other group scales    int8 codes rint((u - 8) * s_group), as QQQ's kernel multiplies; twice the bytes
/// The sums of products are QQQ's own to the last bit.
LinearReader qqq_reader(const JsonNode& config);

}  // namespace tessera::foreign
