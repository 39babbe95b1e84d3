// Attention of a block of query rows over one head's cache, for every instruction set. Included like
// row_ops-inl.h, behind float_matmul-inl.h.
//
// Keys pass in blocks of kKeyBlock (scores of all rows: 24 KiB) with a running maximum and sum for each row
// ("online softmax": Milakov and Gimelshein 2018), so memory does not grow with the context. Blocks start at
// multiples of kKeyBlock: a row's result does not depend on how rows are spread over calls or threads, except
// for the order of sums in float_panel() with at most kDotRows rows.
#include <cstdint>

#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {
namespace {

constexpr int64_t kKeyBlock = 128;

/// State of the rows of one attend().
struct Softmax {
  float highest[kAttentionRows];
  float sum[kAttentionRows];
};

/// Turns row r's scores [begin, end) of a block into weights relative to the new maximum, the others into 0,
/// and rescales what was summed so far.
void softmax_step(Softmax& state, int64_t r, float scale, int64_t begin, int64_t end, float* scores,
                  float* out, int64_t width) {
  const auto fill_others = [&](float value) {
    for (int64_t i = 0; i < begin; ++i) scores[i] = value;
    for (int64_t i = end; i < kKeyBlock; ++i) scores[i] = value;
  };
  if (begin >= end) return fill_others(0);
  fill_others(-__builtin_inff());
  const float before = state.highest[r];
  Lanes top = Lanes::set(before);
  for (int64_t i = 0; i < kKeyBlock; i += kLanes) top = max(top, Lanes::load(scores + i) * Lanes::set(scale));
  state.highest[r] = highest(top);
  const Lanes shift = Lanes::set(state.highest[r]);
  Lanes total = Lanes::set(0);
  for (int64_t i = 0; i < kKeyBlock; i += kLanes) {
    const Lanes weight = exponential(Lanes::load(scores + i) * Lanes::set(scale) - shift);
    weight.store(scores + i);
    total = total + weight;
  }
  fill_others(0);  // exponential() ends at e^-87, which is lost in `total` but not nothing
  const Lanes fade = exponential(Lanes::set(before) - shift);
  state.sum[r] = state.sum[r] * highest(fade) + sum(total);
  for (int64_t i = 0; i < width; i += kLanes) (Lanes::load(out + i) * fade).store(out + i);
}

/// One row of codes as floats, as dequantize_kv() defines them.
void dequantize_row(const uint8_t* row, KvFormat format, KvScale how, int64_t d, float* out) {
  const Lanes scale = Lanes::set(how.scale), zero = Lanes::set(how.zero);
  const bool nibbles = format == KvFormat::kInt4;
  const int64_t bytes = nibbles ? d / 2 : d;
  for_lanes(bytes, [&](int64_t i, auto... some) {
    const Lanes low = Lanes::from_bytes(row + i, 0, nibbles ? 15 : 255, some...);
    (scale * (low - zero)).store(out + i, some...);
    if (!nibbles) return;
    const Lanes high = Lanes::from_bytes(row + i, 4, 15, some...);
    (scale * (high - zero)).store(out + bytes + i, some...);
  });
}

/// Rows of a cache as the float kernels read them: where they lie, or dequantized into
/// scratch [count][kMaxHeadDim]. Up to kPanel rows stay in the L1 cache.
StoredMatrix readable(const CacheRows& cache, int64_t count, int64_t d, float* scratch) {
  if (cache.format == KvFormat::kF32) return {DType::kF32, cache.rows, d};
  if (cache.format == KvFormat::kF16) return {DType::kF16, cache.rows, d};
  for (int64_t r = 0; r < count; ++r) {
    dequantize_row(cache.rows + r * cache.row_bytes, cache.format, cache.scales[r], d,
                   scratch + r * kMaxHeadDim);
  }
  return {DType::kF32, scratch, kMaxHeadDim};
}

/// The positions that row r sees, as [begin, end).
struct Sight {
  int64_t begin, end;
};

Sight sight_of(const AttentionRows& rows, int64_t r) {
  const int64_t end = rows.first_position + r * rows.position_step + 1;
  const bool limited = rows.window > 0 && end > rows.window;
  return {limited ? end - rows.window : 0, end};
}

inline int64_t clamped(int64_t x, int64_t limit) {
  return x < 0 ? 0 : x > limit ? limit : x;
}

/// Adds ALiBi to the scores of a block of keys from `first` on, before these are scaled.
void add_alibi(const AttentionRows& rows, int64_t first, float scale, float* scores) {
  alignas(64) static constexpr float kRamp[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  for (int64_t r = 0; r < rows.count; ++r) {
    const Lanes slope = Lanes::set(rows.alibi[r * rows.alibi_step] / scale);
    const int64_t distance = first - (rows.first_position + r * rows.position_step);
    for (int64_t i = 0; i < kKeyBlock; i += kLanes) {
      const Lanes steps = Lanes::load(kRamp) + Lanes::set(static_cast<float>(distance + i));
      float* at = scores + r * kKeyBlock + i;
      (Lanes::load(at) + slope * steps).store(at);
    }
  }
}

void attend(const AttentionRows& rows) {
  const int64_t d = rows.head_dim, width = round_up(d, kPanel);
  alignas(64) float scores[kAttentionRows * kKeyBlock];
  alignas(64) float out[kAttentionRows * kMaxHeadDim];
  alignas(64) float scratch[kPanel * kMaxHeadDim];
  __builtin_memset(out, 0, sizeof(float) * static_cast<size_t>(rows.count * width));
  Softmax state;
  for (int64_t r = 0; r < rows.count; ++r) {
    state.highest[r] = -__builtin_inff();
    state.sum[r] = 0;
  }
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(d));
  const int64_t begin = sight_of(rows, 0).begin, end = sight_of(rows, rows.count - 1).end;
  for (int64_t first = begin / kKeyBlock * kKeyBlock; first < end; first += kKeyBlock) {
    const int64_t count = clamped(end - first, kKeyBlock);
    for (int64_t i = 0; i < count; i += kPanel) {
      const int64_t n = clamped(count - i, kPanel);
      float_panel({rows.q, rows.stride}, rows.count, readable(rows.keys.from(first + i), n, d, scratch), n, d,
                  scores + i, kKeyBlock);
    }
    if (rows.alibi) add_alibi(rows, first, scale, scores);
    for (int64_t r = 0; r < rows.count; ++r) {
      const Sight sight = sight_of(rows, r);
      softmax_step(state, r, scale, clamped(sight.begin - first, kKeyBlock),
                   clamped(sight.end - first, kKeyBlock), scores + r * kKeyBlock, out + r * width, width);
    }
    const int64_t step = is_quantized(rows.values.format) ? kPanel : kKeyBlock;
    for (int64_t i = 0; i < count; i += step) {
      const int64_t n = clamped(count - i, step);
      const StoredMatrix matrix = readable(rows.values.from(first + i), n, d, scratch);
      with_type(matrix, [&]<class T>(const T* values) {
        for (int64_t c = 0; c < d; c += kPanel) {
          float_tiles({scores + i, kKeyBlock}, rows.count, StridedRows<T>{values + c, matrix.stride}, n,
                      out + c, width);
        }
      });
    }
  }
  for (int64_t r = 0; r < rows.count; ++r) {
    const Lanes inverse = Lanes::set(1.0f / state.sum[r]);
    for_lanes(d, [&](int64_t i, auto... some) {
      (Lanes::load(out + r * width + i) * inverse).store(rows.out + r * rows.stride + i, some...);
    });
  }
}

}  // namespace
}  // namespace tessera
