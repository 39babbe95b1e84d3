// What attention can run.
#include "tessera/kernels/cuda/attention/attention.h"

#include <fmt/format.h>

#include <algorithm>

#include "tessera/kernels/cuda/attention/page_layout.h"
#include "tessera/kernels/cuda/check.h"

namespace tessera::cuda {

std::string attention_obstacle(KvFormat format, int64_t head_dim, int64_t heads, int64_t kv_heads) {
  if (format == KvFormat::kF32) return "keys and values of 32 bits; use 16, 8 or 4";
  constexpr int64_t kDims[] = {32, 64, 80, 96, 128, 256};
  if (std::ranges::find(kDims, head_dim) == std::end(kDims)) {
    return fmt::format("heads of {} dimensions; it has 32, 64, 80, 96, 128 and 256", head_dim);
  }
  if (heads / kv_heads > prefill_rows(static_cast<int>(head_dim))) {
    return fmt::format("{} heads that share a key head; at most {} do", heads / kv_heads,
                       prefill_rows(static_cast<int>(head_dim)));
  }
  const int rows = static_cast<int>(std::min<int64_t>(heads / kv_heads, kDecodeRows)),
            needed = decode_shared_bytes({format, static_cast<int>(head_dim)}, rows, 1),
            room = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  if (needed > room) {
    return fmt::format(
        "heads of {} dimensions in {} bits, which need {} bytes of shared memory, on this GPU, which has {}; "
        "use fewer bits",
        head_dim, kv_bits(format), needed, room);
  }
  return {};
}

int64_t prefill_tasks(int64_t count, int heads, int kv_heads, int head_dim) {
  const int64_t tokens = prefill_rows(head_dim) / (heads / kv_heads);
  return (count + tokens - 1) / tokens;
}

}  // namespace tessera::cuda
