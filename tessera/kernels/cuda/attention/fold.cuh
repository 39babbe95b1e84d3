// How results of attention over different keys are added up: one formula for pages, spans and every kernel.
#pragma once

#include <cmath>

namespace tessera::cuda {

__device__ __forceinline__ float exp2_approximate(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// The factors by which two results are added up.
struct FoldFactors {
  float most, of_first, of_second;

  __device__ __forceinline__ FoldFactors(float first, float second) : most(fmaxf(first, second)) {
    const float base = most == -INFINITY ? 0 : most;
    of_first = exp2_approximate(first - base);
    of_second = exp2_approximate(second - base);
  }
  __device__ __forceinline__ float add(float first, float second) const {
    return __fmaf_rn(first, of_first, __fmul_rn(second, of_second));
  }
};

}  // namespace tessera::cuda
