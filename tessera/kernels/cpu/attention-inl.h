// Attention of a block of query rows over one head's pages, for every instruction set. Included like
// row_ops-inl.h, behind float_matmul-inl.h.
//
// Keys pass in blocks of kKeyBlock (scores of all rows: 24 KiB) with a running maximum and sum for each row
// ("online softmax": Milakov and Gimelshein 2018), so memory does not grow with the context. Blocks start at
// multiples of kKeyBlock, chunks within them at multiples of theirs, and what a row does not see has weight
// 0: its result is the same to the last bit however rows are spread over steps, calls and threads.
#include <cstdint>

#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {
namespace {

constexpr int64_t kKeyBlock = 2 * kPageTokens;
constexpr int64_t kHeadChunk = 64;   ///< dimensions of keys in scratch at once: 16 KiB
constexpr int64_t kValueChunk = 32;  ///< positions of values in scratch at once: up to 32 KiB

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

/// Dimensions begin .. begin + count - 1 of a page's keys, [count][kPageTokens]: where they lie, or as floats
/// in `scratch`. Codes are dequantized; 16-bit floats are converted where more than one tile of query rows
/// reads them.
StoredMatrix readable_keys(const CachePages& cache, const uint8_t* block, int64_t d, int64_t begin,
                           int64_t count, bool several_tiles, float* scratch) {
  const StoredMatrix converted{DType::kF32, scratch, kPageTokens};
  if (!is_quantized(cache.format)) {
    const DType type = cache.format == KvFormat::kF16 ? DType::kF16 : DType::kF32;
    const StoredMatrix stored = StoredMatrix{type, block, kPageTokens}.from(begin);
    if (type == DType::kF32 || !several_tiles) return stored;
    to_float(stored, count * kPageTokens, scratch);
    return converted;
  }
  const auto* scale = reinterpret_cast<const float*>(block + cache.key_scales);
  const auto* zero = scale + kPageTokens;
  const bool nibbles = cache.format == KvFormat::kInt4;
  for (int64_t lane = 0; lane < kPageTokens; lane += kLanes) {
    const Lanes s = Lanes::load(scale + lane), z = Lanes::load(zero + lane);
    for (int64_t i = 0; i < count; ++i) {
      const bool high = nibbles && begin + i >= d / 2;
      const int64_t line = high ? begin + i - d / 2 : begin + i;
      const uint8_t* codes = block + line * kPageTokens + lane;
      const Lanes u = Lanes::from_bytes(codes, high ? 4 : 0, nibbles ? 15 : 255);
      (s * (u - z)).store(scratch + i * kPageTokens + lane);
    }
  }
  return converted;
}

/// Values of `count` positions from `begin` on in a page, [count][d], in the same way.
StoredMatrix readable_values(const CachePages& cache, const uint8_t* block, int64_t d, int64_t begin,
                             int64_t count, bool several_tiles, float* scratch) {
  const uint8_t* rows = block + cache.values;
  if (!is_quantized(cache.format)) {
    const DType type = cache.format == KvFormat::kF16 ? DType::kF16 : DType::kF32;
    const StoredMatrix stored = StoredMatrix{type, rows, d}.from(begin);
    if (type == DType::kF32 || !several_tiles) return stored;
    to_float(stored, count * d, scratch);
    return {DType::kF32, scratch, d};
  }
  const auto* scales = reinterpret_cast<const KvScale*>(block + cache.value_scales);
  const int64_t row_bytes = kv_row_bytes(cache.format, d);
  for (int64_t r = 0; r < count; ++r) {
    dequantize_row(rows + (begin + r) * row_bytes, cache.format, scales[begin + r], d,
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

/// scores [count rows][kPageTokens of kKeyBlock] = queries times the keys of one page.
void score_page(const AttentionRows& rows, const uint8_t* block, float* scratch, float* scores) {
  const Lanes nothing = Lanes::set(0);
  for (int64_t r = 0; r < rows.count; ++r) {
    for (int64_t i = 0; i < kPageTokens; i += kLanes) nothing.store(scores + r * kKeyBlock + i);
  }
  for (int64_t k = 0; k < rows.head_dim; k += kHeadChunk) {
    const int64_t count = clamped(rows.head_dim - k, kHeadChunk);
    const StoredMatrix keys =
        readable_keys(rows.cache, block, rows.head_dim, k, count, rows.count > kTileRows, scratch);
    with_type(keys, [&]<class T>(const T* data) {
      for (int64_t c = 0; c < kPageTokens; c += kPanel) {
        float_tiles({rows.q.data + k, rows.q.stride}, rows.count, StridedRows<T>{data + c, keys.stride},
                    count, scores + c, kKeyBlock);
      }
    });
  }
}

/// out [count rows][width] += weights times the values of the first `count` positions of one page.
void add_values(const AttentionRows& rows, const uint8_t* block, int64_t count, const float* weights,
                float* scratch, float* out, int64_t width) {
  for (int64_t i = 0; i < count; i += kValueChunk) {
    const int64_t n = clamped(count - i, kValueChunk);
    const StoredMatrix values =
        readable_values(rows.cache, block, rows.head_dim, i, n, rows.count > kTileRows, scratch);
    with_type(values, [&]<class T>(const T* data) {
      for (int64_t c = 0; c < rows.head_dim; c += kPanel) {
        float_tiles({weights + i, kKeyBlock}, rows.count, StridedRows<T>{data + c, values.stride}, n, out + c,
                    width);
      }
    });
  }
}

void attend(const AttentionRows& rows) {
  const int64_t d = rows.head_dim, width = round_up(d, kPanel);
  alignas(64) float scores[kAttentionRows * kKeyBlock];
  alignas(64) float out[kAttentionRows * kMaxHeadDim];
  alignas(64) float scratch[kValueChunk * kMaxHeadDim + kPanel];
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
    for (int64_t i = 0; i < count; i += kPageTokens) {
      score_page(rows, rows.cache.block(first + i), scratch, scores + i);
    }
    if (rows.alibi) add_alibi(rows, first, scale, scores);
    for (int64_t r = 0; r < rows.count; ++r) {
      const Sight sight = sight_of(rows, r);
      softmax_step(state, r, scale, clamped(sight.begin - first, kKeyBlock),
                   clamped(sight.end - first, kKeyBlock), scores + r * kKeyBlock, out + r * width, width);
    }
    for (int64_t i = 0; i < count; i += kPageTokens) {
      add_values(rows, rows.cache.block(first + i), clamped(count - i, kPageTokens), scores + i, scratch, out,
                 width);
    }
  }
  for (int64_t r = 0; r < rows.count; ++r) {
    const Lanes inverse = Lanes::set(1.0f / state.sum[r]);
    for_lanes(d, [&](int64_t i, auto... some) {
      (Lanes::load(out + r * width + i) * inverse).store(rows.out + r * rows.out_stride + i, some...);
    });
  }
}

}  // namespace
}  // namespace tessera
