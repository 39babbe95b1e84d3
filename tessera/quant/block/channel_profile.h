// How large each input channel of a block's sites is: the picture in which one sees outliers come and go.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>

#include "tessera/quant/block/block.h"

namespace tessera {

/// The maxima [channels] of the input of linear `id` as they are to be shown.
using ShownChannels = std::function<at::Tensor(LinearId id, const at::Tensor& channel_absmax)>;

/// Runs a few windows of x [windows, tokens, hidden] through the block. Returns {"qkv": [...], ...}: for
/// every site the largest magnitude in each of at most 256 bands of neighbouring channels, four digits.
nlohmann::json channel_profile(const ModelSpec& spec, const Block& block, const at::Tensor& x,
                               const ShownChannels& shown);

}  // namespace tessera
