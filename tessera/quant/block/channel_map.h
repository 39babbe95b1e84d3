// The sparse map from a site's input channels to the columns that its linears multiply: channels split into
// copies, channels averaged ("QLLM", channel reassembly).
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "tessera/format/quantized_linear.h"

namespace tessera {

/// x'[c] = sum over the sources s of column c of gain[s] * x[index[s]], in this order: the input map of
/// QuantizedLinear, whose repeat[c] says for how many equal columns c stands.
class ChannelMap {
 public:
  /// One source of a column.
  struct Source {
    int32_t channel;
    float gain;
  };
  /// What one column is made of.
  struct Column {
    std::vector<Source> sources;  ///< at least one
    uint8_t repeat = 1;
  };

  ChannelMap() = default;  ///< identity
  explicit ChannelMap(const std::vector<Column>& columns);
  /// The input map of `linear`, dropping of outliers included.
  explicit ChannelMap(const QuantizedLinear& linear);

  bool identity() const { return columns_ == 0; }
  bool repeats() const { return repeat_.defined(); }
  int64_t columns() const { return columns_; }

  /// x [..., K] -> x' [..., columns], bit for bit what the integer layer quantizes. Differentiable.
  at::Tensor apply(const at::Tensor& x) const;
  /// Columns behind the quantizer: each as often as it counts.
  at::Tensor repeated(const at::Tensor& mapped) const;
  /// Weights [N, columns] that go with the map, of weights [N, K]: a column's is the sum of its sources',
  /// without those of gain 0.
  at::Tensor fold(const at::Tensor& weight) const;
  /// Gives `linear`, whose columns are the map's, the map.
  void attach(QuantizedLinear& linear) const;

 private:
  /// The r-th sources of the columns that have so many.
  struct Round {
    at::Tensor column, channel, gain;  ///< int64 [C], int64 [C], float [C]
  };
  int64_t columns_ = 0;
  std::vector<Round> rounds_;  ///< the first covers all columns
  at::Tensor repeat_;          ///< float [columns]; undefined: all 1
  std::vector<int32_t> index_, offset_;
  std::vector<float> gain_;
};

}  // namespace tessera
