// The residual streams between blocks: what the float model computes on the calibration windows, and what
// the blocks quantized so far make of the same windows.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <functional>
#include <span>

#include "tessera/quant/block/block.h"

namespace tessera {

/// Inputs of one block, float32 [windows, tokens, hidden].
struct Streams {
  at::Tensor x_float, x_quant;

  /// Median over tokens of ||x_quant - x_float|| / ||x_float||
  double relative_error() const;
  /// Writes both, exactly and atomically.
  FileDigest save(const std::filesystem::path& file) const;
  /// So long that saving costs little, however large they are; 0 where it costs nothing to speak of. On a GPU
  /// a block takes less time than saving its input: a resumed run repeats some blocks instead.
  double seconds_between_saves() const;
  /// Throws Error when the file does not hold streams of this shape.
  static Streams load(const std::filesystem::path& file, const Shape& shape, const at::Device& device);
};

/// Finds a tensor outside the blocks by its name.
using TensorLookup = std::function<TensorView(const std::string& name)>;

/// The input of the first block for windows of equal length: embeddings, with their norm or learned positions
/// where the family has them; float32 [windows, tokens, hidden]. Throws Error for an id outside the
/// vocabulary.
at::Tensor embed_windows(const ModelSpec& spec, const TensorLookup& tensor,
                         std::span<const std::vector<int32_t>> windows, const at::Device& device);

/// Replaces the input of a block, x [windows, tokens, hidden], by its output, a few windows at a time.
void propagate(const ModelSpec& spec, const Block& block, const LinearFn& linear, at::Tensor& x);

}  // namespace tessera
