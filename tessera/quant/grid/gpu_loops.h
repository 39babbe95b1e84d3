// The loops over single weights on an NVIDIA GPU, where tensor operators would pass over memory once for
// every operation. They compute what the loops of the CPU compute; losses are sums in another order, with
// fused products and a fast power. Pointers are memory of GPU `device`; the work goes to its default stream,
// where libtorch's goes.
#pragma once

#include <cstdint>

namespace tessera::gpu {

/// GridCells: float32, contiguous.
struct CellArrays {
  const float *step, *lo, *hi;
  int64_t groups;  ///< of an output
};

/// What rounding weight [rows, k] to the cells of each candidate costs group by group, losses [candidates,
/// rows, groups]: sum importance[k] error^2, or sum |error|^exponent where `importance` is null.
void separable_losses(int device, const float* weight, int64_t rows, int64_t k, int64_t candidates,
                      const CellArrays& cells, const float* importance, float exponent, float* losses);

/// Inputs that quantize_columns() takes at once at most.
constexpr int64_t kMostColumns = 128;

/// One block of GPTQ's column loop.
struct ColumnLoop {
  int64_t rows, count;
  const float* weight;  ///< [rows, count], `weight_stride` from row to row
  int64_t weight_stride;
  const float* upper;  ///< [count, count]: the block's part of U, `upper_stride` from row to row
  int64_t upper_stride;
  const int64_t* column;  ///< [count]: where the codes of each input go
  int64_t group_size;     ///< of the grid
  bool sparse;            ///< two of four neighbours become zero
  int8_t* codes;          ///< rows of `code_stride`
  int64_t code_stride;
  float* errors;  ///< [rows, count]: (w - q) / U_ii
  double* loss;   ///< [rows]: receives what is added to it
};
void quantize_columns(int device, const ColumnLoop& loop, const CellArrays& cells);

}  // namespace tessera::gpu
