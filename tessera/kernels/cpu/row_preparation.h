// From a float row to what linear layers read: floats, or input map, outlier columns and codes.
#pragma once

#include <vector>

#include "tessera/kernels/cpu/cpu_input.h"

namespace tessera {

/// The row stays in the cache of one thread from its producer (norm, GLU) to its codes; no float matrix is
/// ever written. The map is a gather into a second row rather than part of the quantizer's two passes: they
/// would gather twice, and a gather costs more than the store and the loads that it saves.
class RowPreparation : public InputFormat {
 public:
  /// Floats as they are.
  RowPreparation(int64_t width, const CpuKernels& kernels);
  /// As `linear` reads its input.
  RowPreparation(const QuantizedLinear& linear, const CpuKernels& kernels);

  int64_t width() const override { return k_in_; }
  /// True when rows stay in floats: of float layers, and weight-only ones.
  bool floats() const { return floats_; }
  bool real_zero() const { return quantizer_.kind == RowQuantizer::Kind::kRealZero; }
  int64_t outliers() const { return static_cast<int64_t>(outlier_index_.size()); }

  /// Makes room in `input` for m rows.
  void reserve(CpuInput& input, int64_t m) const;
  /// Where a producer may write row t [width()] before it is prepared: its final place, or scratch of the
  /// thread.
  float* row(CpuInput& input, int64_t t) const;
  /// Prepares row t from x [width()], which may be what row() gave.
  void prepare(const float* x, int64_t t, CpuInput& input) const;

 private:
  /// A further source of a column.
  struct Extra {
    int32_t column, index;
    float gain;
  };

  void split_map(const QuantizedLinear& linear);
  /// x' [k] of x [k_in].
  void map(const float* x, float* mapped) const;

  const CpuKernels& kernels_;
  int64_t k_in_, k_;
  bool floats_;
  RowQuantizer quantizer_;
  std::vector<float> repeat_;
  // x'[c] = gain[c] * x[index[c]], then the extras in their order. Empty: x' = x.
  std::vector<int32_t> index_;
  std::vector<float> gain_;
  std::vector<Extra> extras_;
  std::vector<int32_t> outlier_index_;
};

}  // namespace tessera
