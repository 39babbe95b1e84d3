// Chooses the launcher of a weight layout and makes the tensor maps.
#include "tessera/base/error.h"
#include "tessera/kernels/cuda/check.h"
#include "tessera/kernels/cuda/packed_weights.h"
#include "tessera/kernels/cuda/sm90a/launchers.h"

namespace tessera::cuda {
namespace {

/// cuTensorMapEncodeTiled, found through the runtime so that nothing links the driver library.
auto tensor_map_encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  check(
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
      "looking up cuTensorMapEncodeTiled");
  if (found != cudaDriverEntryPointSuccess) throw Error("this CUDA driver is older than 12.0: update it");
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

/// A matrix of which boxes of `box_bytes` (64 or 128, swizzled alike) x `box_rows` rows are copied; what lies
/// beyond it reads as 0.
struct Matrix {
  const void* data;
  int64_t columns, rows, stride;  ///< elements
  int element_bytes, box_bytes;
};

CUtensorMap tensor_map(const Matrix& matrix, int box_rows) {
  static const auto encode = tensor_map_encoder();
  const cuuint64_t extent[2] = {static_cast<cuuint64_t>(matrix.columns),
                                static_cast<cuuint64_t>(matrix.rows)};
  const cuuint64_t stride[1] = {static_cast<cuuint64_t>(matrix.stride * matrix.element_bytes)};
  const cuuint32_t box[2] = {static_cast<cuuint32_t>(matrix.box_bytes / matrix.element_bytes),
                             static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t step[2] = {1, 1};
  const auto type =
      matrix.element_bytes == 1 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_UINT16;
  const auto swizzle = matrix.box_bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_128B;
  CUtensorMap map;
  const CUresult status = encode(&map, type, 2, const_cast<void*>(matrix.data), extent, stride, box, step,
                                 CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                 CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS)
    throw Error("CUDA: cuTensorMapEncodeTiled failed with code {}", static_cast<int>(status));
  return map;
}

TensorMaps make_maps(const GemmProblem& p, int tokens) {
  const int rows = tile_tokens(p.m, tokens);
  TensorMaps maps{};
  maps.codes = tensor_map({p.codes, p.weights.k, p.m, p.codes_stride, 1, kBlockInputs}, rows);
  if (packs_outputs(p))
    maps.out = tensor_map({p.out, p.weights.n, p.m, p.out_stride, 2, 2 * kBlockOutputs}, rows);
  if (p.adds_outliers()) {
    maps.outliers =
        tensor_map({p.outliers.x, p.outliers.count, p.m, p.outliers.stride, 2, 2 * kOutlierColumns}, rows);
  }
  return maps;
}

GemmLauncher* launcher_of(WeightLayout layout, bool outliers) {
  if (outliers) return layout.bits == 8 ? launch_sm90a_int8_outliers : launch_sm90a_int4_outliers;
  if (layout.bits == 8) return launch_sm90a_int8;
  switch (layout.group_size) {
    case 0:
      return launch_sm90a_int4;
    case 32:
      return launch_sm90a_grouped32;
    case 64:
      return launch_sm90a_grouped64;
    default:
      return launch_sm90a_grouped128;
  }
}

}  // namespace

void launch_sm90a(const GemmProblem& problem, const GemmConfig& config, bool overlap_previous,
                  cudaStream_t stream) {
  launcher_of(problem.weights.layout, problem.adds_outliers())(problem, make_maps(problem, config.tokens),
                                                               config, overlap_previous, stream);
}

}  // namespace tessera::cuda
