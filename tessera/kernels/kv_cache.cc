// Memory of a key-value cache, the same on every device.
#include "tessera/base/error.h"
#include "tessera/kernels/backend.h"

namespace tessera {

KvCache Backend::make_cache(int64_t n_layers, int64_t n_kv_heads, int64_t head_dim, int64_t capacity,
                            KvFormat format) {
  if (is_quantized(format) && head_dim % 2 != 0) {
    throw Error("heads of {} dimensions cannot be cached as {}; an even number can", head_dim,
                name_of(format));
  }
  KvCache cache{n_layers, n_kv_heads, head_dim, capacity, format, 0, {}, {}, {}, {}};
  const auto rows = static_cast<size_t>(n_kv_heads * capacity);
  for (int64_t layer = 0; layer < n_layers; ++layer) {
    for (auto* buffers : {&cache.keys, &cache.values}) {
      buffers->push_back(allocate(rows * static_cast<size_t>(kv_row_bytes(format, head_dim))));
    }
    if (!is_quantized(format)) continue;
    for (auto* buffers : {&cache.key_scales, &cache.value_scales}) {
      buffers->push_back(allocate(rows * sizeof(KvScale)));
    }
  }
  return cache;
}

}  // namespace tessera
