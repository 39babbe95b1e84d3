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
                const CacheRows& keys, const CacheRows& values) {
  const int64_t shared = n_heads / cache.n_kv_heads, height = std::min(shared, kHeadsAtOnce);
  const int64_t tasks = (shared + height - 1) / height;
  rows.stride = cache.head_dim;
  rows.position_step = 0;
  rows.alibi_step = 1;
  parallel_for(cache.n_kv_heads * tasks, [&](int64_t i) {
    const int64_t kv_head = i / tasks, begin = i % tasks * height;
    AttentionRows part = rows;
    part.count = std::min(height, shared - begin);
    part.q += (kv_head * shared + begin) * cache.head_dim;
    part.out += (kv_head * shared + begin) * cache.head_dim;
    part.keys = keys.from(kv_head * cache.capacity);
    part.values = values.from(kv_head * cache.capacity);
    if (rows.alibi) part.alibi += kv_head * shared + begin;
    kernels.attend(part);
  });
}

/// Many tokens: a task is a block of tokens of one query head. Later blocks see more, so they start first.
void attend_many(const CpuKernels& kernels, AttentionRows rows, const KvCache& cache, int64_t m,
                 int64_t n_heads, const CacheRows& keys, const CacheRows& values) {
  const int64_t shared = n_heads / cache.n_kv_heads, blocks = (m + kAttentionRows - 1) / kAttentionRows;
  rows.stride = n_heads * cache.head_dim;
  rows.position_step = 1;
  rows.alibi_step = 0;
  parallel_for_dynamic(n_heads * blocks, [&](int64_t i) {
    const int64_t head = i % n_heads, begin = (blocks - 1 - i / n_heads) * kAttentionRows;
    AttentionRows part = rows;
    part.count = std::min(kAttentionRows, m - begin);
    part.first_position += begin;
    part.q += (begin * n_heads + head) * cache.head_dim;
    part.out += (begin * n_heads + head) * cache.head_dim;
    part.keys = keys.from(head / shared * cache.capacity);
    part.values = values.from(head / shared * cache.capacity);
    if (rows.alibi) part.alibi += head;
    kernels.attend(part);
  });
}

void check_width(const KvCache& cache) {
  if (cache.head_dim <= kMaxHeadDim) return;
  throw Error("heads of {} dimensions are too wide; the CPU kernels support up to {}", cache.head_dim,
              kMaxHeadDim);
}

/// The scales of a layer; null when the format has none.
KvScale* scales_of(const std::vector<std::unique_ptr<Buffer>>& scales, int64_t layer) {
  return scales.empty() ? nullptr : static_cast<KvScale*>(scales[static_cast<size_t>(layer)]->data());
}

/// x [head_dim] as quantize_kv() defines it, with the quantizer of the activations.
KvScale quantize_row(const CpuKernels& kernels, const float* x, int64_t d, KvFormat format, uint8_t* row) {
  alignas(64) int8_t codes[kMaxHeadDim];
  int16_t pair_sum[kMaxHeadDim / kKBlock * 2];
  float scale;
  int32_t zero_point, sum;
  RowQuantizer how;
  how.kind = RowQuantizer::Kind::kAsymmetric;
  how.bits = kv_bits(format);
  kernels.quantize(x, d, round_up(d, kKBlock), how,
                   {codes, kMaxHeadDim, &scale, &zero_point, &sum, pair_sum});
  const int half = 1 << (how.bits - 1);
  const int64_t bytes = kv_row_bytes(format, d);
  for (int64_t i = 0; i < bytes; ++i) {
    row[i] = format == KvFormat::kInt8 ? static_cast<uint8_t>(codes[i] + half)
                                       : pack_nibbles(codes[i] + half, codes[i + bytes] + half);
  }
  return {scale, static_cast<float>(zero_point + half)};
}

/// Stores x [head_dim] as row `to`.
void store_row(const CpuKernels& kernels, const KvCache& cache, const float* x, Buffer& rows, KvScale* scales,
               int64_t to) {
  const int64_t d = cache.head_dim;
  uint8_t* row = static_cast<uint8_t*>(rows.data()) + to * kv_row_bytes(cache.format, d);
  if (scales) {
    scales[to] = quantize_row(kernels, x, d, cache.format, row);
  } else if (cache.format == KvFormat::kF16) {
    kernels.to_half(x, d, reinterpret_cast<Half*>(row));
  } else {
    std::memcpy(row, x, static_cast<size_t>(d) * sizeof(float));
  }
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
  assert(cache.length + m <= cache.capacity);
  if (is_quantized(cache.format)) check_width(cache);
  const auto l = static_cast<size_t>(layer);
  parallel_for(m, [&](int64_t t) {
    for (int64_t head = 0; head < cache.n_kv_heads; ++head) {
      const int64_t from = (t * cache.n_kv_heads + head) * cache.head_dim;
      const int64_t to = head * cache.capacity + cache.length + t;
      store_row(kernels, cache, k + from, *cache.keys[l], scales_of(cache.key_scales, layer), to);
      store_row(kernels, cache, v + from, *cache.values[l], scales_of(cache.value_scales, layer), to);
    }
  });
}

void attend_all(const CpuKernels& kernels, const float* q, const KvCache& cache, int64_t layer, int64_t m,
                int64_t n_heads, const AttentionRule& rule, float* out) {
  check_width(cache);
  const auto rows_of = [&](const auto& rows, const auto& scales) {
    return CacheRows{cache.format, static_cast<const uint8_t*>(rows[static_cast<size_t>(layer)]->data()),
                     kv_row_bytes(cache.format, cache.head_dim), scales_of(scales, layer)};
  };
  const CacheRows keys = rows_of(cache.keys, cache.key_scales);
  const CacheRows values = rows_of(cache.values, cache.value_scales);
  AttentionRows rows;
  rows.q = q;
  rows.out = out;
  rows.first_position = cache.length;
  rows.window = rule.window;
  rows.alibi = rule.alibi_slopes;
  rows.head_dim = cache.head_dim;
  if (m == 1) {
    attend_one(kernels, rows, cache, n_heads, keys, values);
  } else {
    attend_many(kernels, rows, cache, m, n_heads, keys, values);
  }
}

}  // namespace tessera
