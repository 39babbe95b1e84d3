// Operations on heads, spread over the threads.
#include "tessera/kernels/cpu/attention.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"

namespace tessera {
namespace {

/// Heads of one task of attend_one(); few enough for dot products (kDotRows), and the same for any number of
/// threads, because the order of sums depends on it.
constexpr int64_t kHeadsAtOnce = 4;

/// One new token: a task is some of the query heads that share a key head.
void attend_one(const CpuKernels& kernels, AttentionRows rows, const KvCache& cache, int64_t n_heads,
                const StoredMatrix& keys, const StoredMatrix& values) {
  const int64_t shared = n_heads / cache.n_kv_heads, height = std::min(shared, kHeadsAtOnce);
  const int64_t tasks = (shared + height - 1) / height;
  rows.stride = cache.head_dim;
  rows.position_step = 0;
  parallel_for(cache.n_kv_heads * tasks, [&](int64_t i) {
    const int64_t kv_head = i / tasks, begin = i % tasks * height;
    AttentionRows part = rows;
    part.count = std::min(height, shared - begin);
    part.q += (kv_head * shared + begin) * cache.head_dim;
    part.out += (kv_head * shared + begin) * cache.head_dim;
    part.keys = keys.from(kv_head * cache.capacity);
    part.values = values.from(kv_head * cache.capacity);
    kernels.attend(part);
  });
}

/// Many tokens: a task is a block of tokens of one query head. Later blocks see more, so they start first.
void attend_many(const CpuKernels& kernels, AttentionRows rows, const KvCache& cache, int64_t m,
                 int64_t n_heads, const StoredMatrix& keys, const StoredMatrix& values) {
  const int64_t shared = n_heads / cache.n_kv_heads, blocks = (m + kAttentionRows - 1) / kAttentionRows;
  rows.stride = n_heads * cache.head_dim;
  rows.position_step = 1;
  parallel_for_dynamic(n_heads * blocks, [&](int64_t i) {
    const int64_t head = i % n_heads, begin = (blocks - 1 - i / n_heads) * kAttentionRows;
    AttentionRows part = rows;
    part.count = std::min(kAttentionRows, m - begin);
    part.first_position += begin;
    part.q += (begin * n_heads + head) * cache.head_dim;
    part.out += (begin * n_heads + head) * cache.head_dim;
    part.keys = keys.from(head / shared * cache.capacity);
    part.values = values.from(head / shared * cache.capacity);
    kernels.attend(part);
  });
}

}  // namespace

void rotate_heads(float* rows, int64_t m, int64_t first, int64_t n_heads, int64_t head_dim,
                  const float* cosines, const float* sines) {
  const int64_t half = head_dim / 2;
  parallel_for(m, [&](int64_t t) {
    const float* c = cosines + (first + t) * half;
    const float* s = sines + (first + t) * half;
    for (int64_t h = 0; h < n_heads; ++h) {
      float* lo = rows + (t * n_heads + h) * head_dim;
      float* hi = lo + half;
      for (int64_t i = 0; i < half; ++i) {
        const float a = lo[i], b = hi[i];
        lo[i] = a * c[i] - b * s[i];
        hi[i] = b * c[i] + a * s[i];
      }
    }
  });
}

void append_to_cache(const CpuKernels& kernels, KvCache& cache, int64_t layer, const float* k, const float* v,
                     int64_t m) {
  const auto l = static_cast<size_t>(layer);
  assert(cache.length + m <= cache.capacity);
  const auto store = [&](const float* from, Buffer& buffer, int64_t position, int64_t head) {
    const int64_t to = (head * cache.capacity + position) * cache.head_dim;
    if (cache.dtype == DType::kF16) {
      kernels.to_half(from, cache.head_dim, static_cast<Half*>(buffer.data()) + to);
    } else {
      std::memcpy(buffer.floats() + to, from, static_cast<size_t>(cache.head_dim) * sizeof(float));
    }
  };
  parallel_for(m, [&](int64_t t) {
    for (int64_t head = 0; head < cache.n_kv_heads; ++head) {
      const int64_t from = (t * cache.n_kv_heads + head) * cache.head_dim;
      store(k + from, *cache.keys[l], cache.length + t, head);
      store(v + from, *cache.values[l], cache.length + t, head);
    }
  });
}

void attend_all(const CpuKernels& kernels, const float* q, const KvCache& cache, int64_t layer, int64_t m,
                int64_t n_heads, int64_t window, float* out) {
  if (cache.head_dim > kMaxHeadDim) {
    throw Error("heads of {} dimensions are too wide; the CPU kernels support up to {}", cache.head_dim,
                kMaxHeadDim);
  }
  const auto l = static_cast<size_t>(layer);
  const StoredMatrix keys{cache.dtype, cache.keys[l]->data(), cache.head_dim};
  const StoredMatrix values{cache.dtype, cache.values[l]->data(), cache.head_dim};
  AttentionRows rows;
  rows.q = q;
  rows.out = out;
  rows.first_position = cache.length;
  rows.window = window;
  rows.head_dim = cache.head_dim;
  if (m == 1) {
    attend_one(kernels, rows, cache, n_heads, keys, values);
  } else {
    attend_many(kernels, rows, cache, m, n_heads, keys, values);
  }
}

}  // namespace tessera
