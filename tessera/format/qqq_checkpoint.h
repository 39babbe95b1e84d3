// Linear layers of checkpoints that QQQ's own program or GPTQModel wrote.
#pragma once

#include <string>

#include "tessera/format/checkpoint.h"
#include "tessera/format/quantized_linear.h"

namespace tessera::qqq {

/// True when the checkpoint holds PREFIX.B.
bool is_quantized(const Checkpoint& checkpoint, const std::string& prefix);

/// Reads PREFIX.B, .s_channel, .s_group and .bias (QQQ, checkpoint layout), N a multiple of 64, K of 16:
///   one scale a row       int4; s_channel holds a 16th of the scale
///   integer group scales  uint4 in groups, as they are
///   other group scales    int8 codes rint((u - 8) * s_group): what QQQ's kernel multiplies, in twice the
///   bytes
/// The sums of products are QQQ's own to the last bit. Throws Error (folder and tensor) when a tensor is
/// absent or of another shape or type, a scale is negative or not finite, or a product leaves int8.
QuantizedLinear load_linear(const Checkpoint& checkpoint, const std::string& prefix);

}  // namespace tessera::qqq
