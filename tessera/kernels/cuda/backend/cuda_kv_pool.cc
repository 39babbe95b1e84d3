#include "tessera/kernels/cuda/backend/cuda_kv_pool.h"

#include "tessera/base/error.h"

namespace tessera::cuda {

CudaKvPool::CudaKvPool(const KvShape& shape, int64_t pages)
    : KvPool(shape, pages), memory_(static_cast<size_t>(pages * shape.page_bytes())) {}

KvPages CudaKvPool::layer(int64_t layer) const {
  return {.format = shape().format,
          .head_dim = static_cast<int>(shape().head_dim),
          .kv_heads = static_cast<int>(shape().n_kv_heads),
          .memory = memory_.as<uint8_t>(
              static_cast<size_t>(layer * shape().n_kv_heads * shape().head_page_bytes())),
          .page_bytes = shape().page_bytes()};
}

}  // namespace tessera::cuda
