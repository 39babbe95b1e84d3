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

inline int64_t clamped(int64_t x, int64_t limit) {
  return x < 0 ? 0 : x > limit ? limit : x;
}

/// State of the rows of one attend(), in whole Lanes.
struct Softmax {
  float highest[kAttentionRows];
  float sum[kAttentionRows];
};
static_assert(kAttentionRows % kLanes == 0);

/// e^x for x <= 0, within 2 ulp from -87 on and e^-87 below: exponential() with products fused with sums,
/// since attention is not equal to the bit on every instruction set anyway.
inline Lanes weight_of(Lanes x) {
  x = max(Lanes::set(-87.0f), x);
  const Lanes n = (x * Lanes::set(1.44269504f)).round();
  const Lanes r = fused(n, Lanes::set(2.12194440e-4f), fused(n, Lanes::set(-0.693359375f), x));
  Lanes p = Lanes::set(0);
  for (float c : kTaylor) p = fused(p, r, Lanes::set(c));
  return p * Lanes::power_of_two(n);
}

/// Lane i: the sum, or the greatest, of the lanes of a[i], for i < count. Destroys a. The order is the same
/// for any count.
template <class OfLanes, class OfPair>
Lanes fold_each(Lanes (&a)[kLanes], int64_t count, OfLanes of_lanes, OfPair of_pair) {
  constexpr int64_t kFew = 4;  // cheaper one by one
  if (count <= kFew) {
    alignas(64) float results[kLanes] = {};
    for (int64_t i = 0; i < count; ++i) results[i] = of_lanes(a[i]);
    return Lanes::load(results);
  }
  transpose(a);
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) a[i] = of_pair(a[i], a[i + half]);
  }
  return a[0];
}
inline Lanes sum_each(Lanes (&a)[kLanes], int64_t count) {
  return fold_each(
      a, count, [](Lanes x) { return sum(x); }, [](Lanes x, Lanes y) { return x + y; });
}
inline Lanes highest_each(Lanes (&a)[kLanes], int64_t count) {
  return fold_each(
      a, count, [](Lanes x) { return highest(x); }, [](Lanes x, Lanes y) { return max(x, y); });
}

/// Scores of a block that a row sees: [begin, end).
struct Visible {
  int64_t begin, end;

  bool none() const { return begin >= end; }
  void fill_others(float* scores, float value) const {
    for (int64_t i = 0; i < begin; ++i) scores[i] = value;
    for (int64_t i = end; i < kKeyBlock; ++i) scores[i] = value;
  }
};

/// Turns scores [rows][kKeyBlock] into weights relative to each row's new maximum, those that it does not see
/// into 0, and rescales what was summed so far: rows first .. first + count - 1, at most kLanes of them,
/// whose maxima and sums are found together.
void softmax_step(Softmax& state, int64_t first, int64_t count, const Visible* visible, float scale,
                  float* scores, float* out, int64_t width) {
  constexpr float kLowest = -__FLT_MAX__;
  Lanes of_row[kLanes];
  for (int64_t r = 0; r < kLanes; ++r) {
    of_row[r] = Lanes::set(kLowest);
    if (r >= count || visible[r].none()) continue;
    float* row = scores + r * kKeyBlock;
    visible[r].fill_others(row, kLowest);
    for (int64_t i = 0; i < kKeyBlock; i += kLanes) of_row[r] = max(of_row[r], Lanes::load(row + i));
  }
  const Lanes before = Lanes::load(state.highest + first),
              now = max(before, highest_each(of_row, count) * Lanes::set(scale)),
              fades = weight_of(before - now);
  alignas(64) float fade[kLanes];
  now.store(state.highest + first);
  fades.store(fade);
  for (int64_t r = 0; r < kLanes; ++r) {
    of_row[r] = Lanes::set(0);
    if (r >= count) continue;
    float* row = scores + r * kKeyBlock;
    if (visible[r].none()) {
      for (int64_t i = 0; i < kKeyBlock; i += kLanes) Lanes::set(0).store(row + i);
      continue;
    }
    const Lanes shift = Lanes::set(-state.highest[first + r]);
    for (int64_t i = 0; i < kKeyBlock; i += kLanes) {
      const Lanes weight = weight_of(fused(Lanes::load(row + i), Lanes::set(scale), shift));
      weight.store(row + i);
      of_row[r] = of_row[r] + weight;
    }
    visible[r].fill_others(row, 0);  // weight_of() ends at e^-87, which is lost in the sum but not nothing
    if (fade[r] == 1) continue;
    for (int64_t i = 0; i < width; i += kLanes) {
      (Lanes::load(out + r * width + i) * Lanes::set(fade[r])).store(out + r * width + i);
    }
  }
  fused(Lanes::load(state.sum + first), fades, sum_each(of_row, count)).store(state.sum + first);
}

/// Codes of a cache as the numbers that they are, like StridedRows. Scales and zero points are left to scores
/// and weights: one of them for a position, where there are head_dim codes.
template <int kShift, int kMask>
struct StridedCodes {
  const uint8_t* data;
  int64_t stride;

  Lanes load(int64_t i, int part) const {
    return Lanes::from_bytes(data + i * stride + part * kLanes, kShift, kMask);
  }
  StridedCodes row(int64_t i) const { return {data + i * stride, stride}; }
  StridedCodes column(int64_t i) const { return {data + i, stride}; }
};
using Bytes = StridedCodes<0, 255>;
using LowNibbles = StridedCodes<0, 15>;
using HighNibbles = StridedCodes<4, 15>;

/// use(first, count, matrix) for dimensions first .. first + count - 1 of a page's keys: matrix
/// [count][kPageTokens].
template <class Use>
void for_keys(const CachePages& cache, const uint8_t* block, int64_t d, const Use& use) {
  switch (cache.format) {
    case KvFormat::kF32:
      return use(0, d, StridedRows<float>{reinterpret_cast<const float*>(block), kPageTokens});
    case KvFormat::kF16:
      return use(0, d, StridedRows<Half>{reinterpret_cast<const Half*>(block), kPageTokens});
    case KvFormat::kInt8:
      return use(0, d, Bytes{block, kPageTokens});
    case KvFormat::kInt4:
      use(0, d / 2, LowNibbles{block, kPageTokens});
      return use(d / 2, d / 2, HighNibbles{block, kPageTokens});
  }
}

/// Where sums of values lie: dimensions first .. first + count - 1 from `column` on, in whole panels. Codes
/// of four bits have their two halves apart, which nibbles of the same bytes are.
struct ValueSpan {
  int64_t first, count, column;
};

struct ValueSpans {
  ValueSpans(KvFormat format, int64_t d) : count(format == KvFormat::kInt4 ? 2 : 1) {
    const int64_t half = d / count;
    for (int64_t i = 0; i < count; ++i) spans[i] = {i * half, half, i * round_up(half, kPanel)};
    columns = round_up(half, kPanel);
    width = count * columns;
  }

  int64_t count, columns, width;  ///< spans, columns of each and of all
  ValueSpan spans[2];
};

/// use(column, matrix) for each span of a page's values: matrix [kPageTokens][columns]. What lies beyond a
/// span's last dimension is undefined.
template <class Use>
void for_values(const CachePages& cache, const uint8_t* block, int64_t d, const ValueSpans& spans,
                const Use& use) {
  const uint8_t* rows = block + cache.values;
  switch (cache.format) {
    case KvFormat::kF32:
      return use(0, StridedRows<float>{reinterpret_cast<const float*>(rows), d});
    case KvFormat::kF16:
      return use(0, StridedRows<Half>{reinterpret_cast<const Half*>(rows), d});
    case KvFormat::kInt8:
      return use(0, Bytes{rows, d});
    case KvFormat::kInt4:
      use(0, LowNibbles{rows, d / 2});
      return use(spans.columns, HighNibbles{rows, d / 2});
  }
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

/// out [m][columns] += x [m, k] * b [k, columns], columns in whole panels. One row has two panels at a time,
/// so that its sums do not wait for each other.
template <class Matrix>
void add_product(const FloatRows& x, int64_t m, const Matrix& b, int64_t columns, int64_t k, float* out,
                 int64_t ldo) {
  int64_t c = 0;
  constexpr int kWide = 2 * kPanel / kLanes;
  for (; m == 1 && c + 2 * kPanel <= columns; c += 2 * kPanel) {
    const Matrix panels = b.column(c);
    Lanes sum[kWide];
    for (Lanes& s : sum) s = Lanes::set(0);
#pragma GCC unroll 4
    for (int64_t i = 0; i < k; ++i) {
      const Lanes xi = Lanes::set(x.data[i]);
      for (int w = 0; w < kWide; ++w) sum[w] = fused(xi, panels.load(i, w), sum[w]);
    }
    for (int w = 0; w < kWide; ++w) {
      float* to = out + c + w * kLanes;
      (Lanes::load(to) + sum[w]).store(to);
    }
  }
  for (; c < columns; c += kPanel) float_tiles(x, m, b.column(c), k, out + c, ldo);
}

/// The same for what is no float yet: converted once, in `scratch`, where more than one tile of rows reads
/// it.
template <class Matrix>
void add_converted_product(const FloatRows& x, int64_t m, const Matrix& b, int64_t columns, int64_t k,
                           float* scratch, float* out, int64_t ldo) {
  if (m <= kTileRows) return add_product(x, m, b, columns, k, out, ldo);
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t c = 0; c < columns; c += kLanes) {
      b.column(c).load(i, 0).store(scratch + i * columns + c);
    }
  }
  add_product(x, m, StridedRows<float>{scratch, columns}, columns, k, out, ldo);
}
inline void add_converted_product(const FloatRows& x, int64_t m, const StridedRows<float>& b, int64_t columns,
                                  int64_t k, float*, float* out, int64_t ldo) {
  add_product(x, m, b, columns, k, out, ldo);
}

/// scores [count rows][kPageTokens of kKeyBlock] = queries times the keys of one page. `q_sum` are the sums
/// of the queries: a key is scale * (codes - zero).
void score_page(const AttentionRows& rows, const uint8_t* block, const float* q_sum, float* scratch,
                float* scores) {
  const Lanes nothing = Lanes::set(0);
  for (int64_t r = 0; r < rows.count; ++r) {
    for (int64_t i = 0; i < kPageTokens; i += kLanes) nothing.store(scores + r * kKeyBlock + i);
  }
  for_keys(rows.cache, block, rows.head_dim, [&](int64_t first, int64_t count, const auto& keys) {
    for (int64_t k = 0; k < count; k += kHeadChunk) {
      add_converted_product({rows.q.data + first + k, rows.q.stride}, rows.count, keys.row(k), kPageTokens,
                            clamped(count - k, kHeadChunk), scratch, scores, kKeyBlock);
    }
  });
  if (!is_quantized(rows.cache.format)) return;
  const auto* scale = reinterpret_cast<const float*>(block + rows.cache.key_scales);
  const auto* zero = scale + kPageTokens;
  for (int64_t i = 0; i < kPageTokens; i += kLanes) {
    const Lanes s = Lanes::load(scale + i), z = Lanes::load(zero + i);
    for (int64_t r = 0; r < rows.count; ++r) {
      float* at = scores + r * kKeyBlock + i;
      (s * (Lanes::load(at) - z * Lanes::set(q_sum[r]))).store(at);
    }
  }
}

/// Weights [count rows][kPageTokens of kKeyBlock] of the first `count` positions times their values' scales;
/// what their zero points take from every dimension of `out` [count rows][width] is taken.
void scale_weights(const KvScale* scales, int64_t count, int64_t rows, float* weights, float* out,
                   int64_t width) {
  alignas(64) float scale[kPageTokens] = {}, zero[kPageTokens] = {};
  for (int64_t i = 0; i < count; ++i) {
    scale[i] = scales[i].scale;
    zero[i] = scales[i].scale * scales[i].zero;
  }
  for (int64_t r = 0; r < rows; ++r) {
    Lanes zeros = Lanes::set(0);
    for (int64_t i = 0; i < kPageTokens; i += kLanes) {
      float* at = weights + r * kKeyBlock + i;
      const Lanes weight = Lanes::load(at);
      zeros = fused(weight, Lanes::load(zero + i), zeros);
      (weight * Lanes::load(scale + i)).store(at);
    }
    const Lanes taken = Lanes::set(sum(zeros));
    for (int64_t i = 0; i < width; i += kLanes) {
      float* at = out + r * width + i;
      (Lanes::load(at) - taken).store(at);
    }
  }
}

/// out [count rows][width] += weights times the values of the first `count` positions of one page. Weights
/// are used up.
void add_values(const AttentionRows& rows, const uint8_t* block, int64_t count, const ValueSpans& spans,
                float* weights, float* scratch, float* out) {
  if (is_quantized(rows.cache.format)) {
    const auto* scales = reinterpret_cast<const KvScale*>(block + rows.cache.value_scales);
    scale_weights(scales, count, rows.count, weights, out, spans.width);
  }
  for_values(rows.cache, block, rows.head_dim, spans, [&](int64_t column, const auto& values) {
    for (int64_t i = 0; i < count; i += kValueChunk) {
      add_converted_product({weights + i, kKeyBlock}, rows.count, values.row(i), spans.columns,
                            clamped(count - i, kValueChunk), scratch, out + column, spans.width);
    }
  });
}

void attend(const AttentionRows& rows) {
  const int64_t d = rows.head_dim;
  const ValueSpans spans(rows.cache.format, d);
  const int64_t width = spans.width;
  alignas(64) float scores[kAttentionRows * kKeyBlock];
  alignas(64) float out[kAttentionRows * kMaxHeadDim];
  alignas(64) float scratch[kValueChunk * kMaxHeadDim + kPanel];
  __builtin_memset(out, 0, sizeof(float) * static_cast<size_t>(rows.count * width));
  Softmax state;
  for (int64_t r = 0; r < kAttentionRows; ++r) {
    state.highest[r] = -__FLT_MAX__;
    state.sum[r] = 0;
  }
  float q_sum[kAttentionRows];
  for (int64_t r = 0; is_quantized(rows.cache.format) && r < rows.count; ++r) {
    Lanes total = Lanes::set(0);
    for_lanes(d, [&](int64_t i, auto... some) {
      total = total + Lanes::load(rows.q.data + r * rows.q.stride + i, some...);
    });
    q_sum[r] = sum(total);
  }
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(d));
  const int64_t begin = sight_of(rows, 0).begin, end = sight_of(rows, rows.count - 1).end;
  for (int64_t first = begin / kKeyBlock * kKeyBlock; first < end; first += kKeyBlock) {
    const int64_t count = clamped(end - first, kKeyBlock);
    for (int64_t i = 0; i < count; i += kPageTokens) {
      score_page(rows, rows.cache.block(first + i), q_sum, scratch, scores + i);
    }
    if (rows.alibi) add_alibi(rows, first, scale, scores);
    for (int64_t r = 0; r < rows.count; r += kLanes) {
      const int64_t together = clamped(rows.count - r, kLanes);
      Visible visible[kLanes];
      for (int64_t i = 0; i < together; ++i) {
        const Sight sight = sight_of(rows, r + i);
        visible[i] = {clamped(sight.begin - first, kKeyBlock), clamped(sight.end - first, kKeyBlock)};
      }
      softmax_step(state, r, together, visible, scale, scores + r * kKeyBlock, out + r * width, width);
    }
    for (int64_t i = 0; i < count; i += kPageTokens) {
      add_values(rows, rows.cache.block(first + i), clamped(count - i, kPageTokens), spans, scores + i,
                 scratch, out);
    }
  }
  for (int64_t r = 0; r < rows.count; ++r) {
    const Lanes inverse = Lanes::set(1.0f / state.sum[r]);
    for (int64_t s = 0; s < spans.count; ++s) {
      const ValueSpan& span = spans.spans[s];
      for_lanes(span.count, [&](int64_t i, auto... some) {
        (Lanes::load(out + r * width + span.column + i) * inverse)
            .store(rows.out + r * rows.out_stride + span.first + i, some...);
      });
    }
  }
}

}  // namespace
}  // namespace tessera
