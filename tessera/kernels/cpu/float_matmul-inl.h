// Float products for every instruction set. Included like row_ops-inl.h, behind it.
//
//   out[m][n] = sum_k x[m][k] * w[n][k]          w in 32- or 16-bit floats
//
// Sums in a fixed order: w is packed in panels [k][32], which stream from memory through the register tile
// below; every sum runs along k. Otherwise w is row-major, as in the checkpoint. Few tokens (up to kDotRows):
// dot products along k, 16 sums at a time; each weight is read once for kDotRows tokens. More tokens: 32 rows
// of w are transposed in chunks of k into a float panel [k][32] in the L1/L2 cache, which serves all tokens
// through a register tile of kTileRows x 32 (outer products): the transposition costs about 4 / m of the
// products. Measured: 220 GFLOP/s of 265 at M = 512 (K = N = 4096, one thread, Zen 5), as fast as OpenBLAS
// with its best kernels, for weights of any type and with nothing to configure.
#include <cstdint>

#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {
namespace {

constexpr int64_t kDotRows = 4;
constexpr int64_t kDotAhead = 1024;     ///< bytes from the weights in hand to those that are prefetched
constexpr int64_t kPackedAhead = 2048;  ///< the same for packed panels
constexpr int64_t kFloatChunk = 256;    ///< inputs of a transposed panel: 32 KiB

/// Stored numbers in rows; a load gives one of a row's Lanes.
template <class T>
struct StridedRows {
  const T* data;
  int64_t stride;

  Lanes load(int64_t i, int part) const { return Lanes::load(data + i * stride + part * kLanes); }
  StridedRows row(int64_t i) const { return {data + i * stride, stride}; }
  StridedRows column(int64_t i) const { return {data + i, stride}; }
};

/// out [kTokens][2 * kLanes] += x [kTokens, k] * b [k, 2 * kLanes], where b.load(i, half) gives half a row of
/// b. Products are added in the order of k, whatever kTokens is: a token's sums do not depend on its
/// neighbours.
template <int kTokens, class Rows>
void float_tile(const FloatRows& x, const Rows& b, int64_t k, float* out, int64_t ldo) {
  for (int first = 0; first < 2; first += kTileHalves) {
    Lanes sum[kTokens][kTileHalves];
    for (auto& token : sum) {
      for (Lanes& s : token) s = Lanes::set(0);
    }
#pragma GCC unroll 4
    for (int64_t i = 0; i < k; ++i) {
      Lanes row[kTileHalves];
      for (int h = 0; h < kTileHalves; ++h) row[h] = b.load(i, first + h);
      for (int t = 0; t < kTokens; ++t) {
        const Lanes xi = Lanes::set(x.data[t * x.stride + i]);
        for (int h = 0; h < kTileHalves; ++h) sum[t][h] = fused(xi, row[h], sum[t][h]);
      }
    }
    for (int t = 0; t < kTokens; ++t) {
      for (int h = 0; h < kTileHalves; ++h) {
        float* to = out + t * ldo + (first + h) * kLanes;
        (Lanes::load(to) + sum[t][h]).store(to);
      }
    }
  }
}

/// Runs float_tile() with a token count known to the compiler.
template <class Rows, int kTokens = kTileRows>
void float_tile_of(int64_t tokens, const FloatRows& x, const Rows& b, int64_t k, float* out, int64_t ldo) {
  if constexpr (kTokens > 1) {
    if (tokens < kTokens) return float_tile_of<Rows, kTokens - 1>(tokens, x, b, k, out, ldo);
  }
  float_tile<kTokens>(x, b, k, out, ldo);
}

/// All m tokens, in tiles of nearly equal height.
template <class Rows>
void float_tiles(const FloatRows& x, int64_t m, const Rows& b, int64_t k, float* out, int64_t ldo) {
  const int64_t count = (m + kTileRows - 1) / kTileRows;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t begin = m * i / count, end = m * (i + 1) / count;
    float_tile_of(end - begin, x.from(begin), b, k, out + begin * ldo, ldo);
  }
}

/// panel [k][kPanel] = (rows 0 .. columns - 1 of w)^T, zeros in the other columns.
template <class T>
void transpose_panel(const T* w, int64_t ldw, int64_t columns, int64_t k, float* panel) {
  for (int64_t first = 0; first < kPanel; first += kLanes) {
    for_lanes(k, [&](int64_t i, auto... some) {
      Lanes block[kLanes];
      for (int64_t r = 0; r < kLanes; ++r) {
        const bool exists = first + r < columns;
        block[r] = exists ? Lanes::load(w + (first + r) * ldw + i, some...) : Lanes::set(0);
      }
      transpose(block);
      const int64_t rows = k - i < kLanes ? k - i : kLanes;
      for (int64_t r = 0; r < rows; ++r) block[r].store(panel + (i + r) * kPanel + first);
    });
  }
}

/// Lane i: the sum of the lanes of a[i]. Destroys a.
inline Lanes sums(Lanes (&a)[kLanes]) {
  transpose(a);
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) a[i] = a[i] + a[i + half];
  }
  return a[0];
}

/// result[t * (16 / kTokens) + o] = x[t] . w[o] for 16 / kTokens rows of w; rows from `columns` on repeat the
/// last one.
template <int kTokens, class T>
void dot_block(const FloatRows& x, const T* w, int64_t ldw, int64_t columns, int64_t k, float* result) {
  constexpr int kOutputs = kLanes / kTokens, kAtOnce = kDotSums / kTokens;
  Lanes all[kLanes];
  for (int first = 0; first < kOutputs; first += kAtOnce) {
    const T* rows[kAtOnce];
    Lanes sum[kTokens][kAtOnce];
    for (int o = 0; o < kAtOnce; ++o) {
      rows[o] = w + (first + o < columns ? first + o : columns - 1) * ldw;
      for (int t = 0; t < kTokens; ++t) sum[t][o] = Lanes::set(0);
    }
    for_lanes(k, [&](int64_t i, auto... some) {
      Lanes xi[kTokens];
      for (int t = 0; t < kTokens; ++t) xi[t] = Lanes::load(x.data + t * x.stride + i, some...);
      for (int o = 0; o < kAtOnce; ++o) {
        __builtin_prefetch(rows[o] + i + kDotAhead / static_cast<int64_t>(sizeof(T)));
        const Lanes wi = Lanes::load(rows[o] + i, some...);
        for (int t = 0; t < kTokens; ++t) sum[t][o] = fused(xi[t], wi, sum[t][o]);
      }
    });
    for (int o = 0; o < kAtOnce; ++o) {
      for (int t = 0; t < kTokens; ++t) all[t * kOutputs + first + o] = sum[t][o];
    }
  }
  sums(all).store(result);
}

template <int kTokens, class T>
void dot_tokens(const FloatRows& x, const T* w, int64_t ldw, int64_t columns, int64_t k, float* out,
                int64_t ldo) {
  constexpr int64_t kOutputs = kLanes / kTokens;
  for (int64_t first = 0; first < columns; first += kOutputs) {
    float result[kLanes];
    dot_block<kTokens>(x, w + first * ldw, ldw, columns - first, k, result);
    for (int t = 0; t < kTokens; ++t) {
      for (int64_t o = 0; o < kOutputs; ++o) out[t * ldo + first + o] = result[t * kOutputs + o];
    }
  }
}

/// Any number of tokens by dot products.
template <class T>
void dot_panel(const FloatRows& x, int64_t m, const T* w, int64_t ldw, int64_t columns, int64_t k, float* out,
               int64_t ldo) {
  int64_t t = 0;
  for (; t + 4 <= m; t += 4) dot_tokens<4>(x.from(t), w, ldw, columns, k, out + t * ldo, ldo);
  if (m - t >= 2) {
    dot_tokens<2>(x.from(t), w, ldw, columns, k, out + t * ldo, ldo);
    t += 2;
  }
  if (t < m) dot_tokens<1>(x.from(t), w, ldw, columns, k, out + t * ldo, ldo);
}

template <class T>
void typed_float_panel(const FloatRows& x, int64_t m, const T* w, int64_t ldw, int64_t columns, int64_t k,
                       float* out, int64_t ldo) {
  if (m <= kDotRows) return dot_panel(x, m, w, ldw, columns, k, out, ldo);
  for (int64_t t = 0; t < m; ++t) {
    Lanes::set(0).store(out + t * ldo);
    Lanes::set(0).store(out + t * ldo + kLanes);
  }
  alignas(64) float panel[kFloatChunk * kPanel];
  for (int64_t i = 0; i < k; i += kFloatChunk) {
    const int64_t count = k - i < kFloatChunk ? k - i : kFloatChunk;
    transpose_panel(w + i, ldw, columns, count, panel);
    float_tiles({x.data + i, x.stride}, m, StridedRows<float>{panel, kPanel}, count, out, ldo);
  }
}

/// visit(pointer to the elements) with their real type.
template <class Visit>
void with_type(const StoredMatrix& matrix, const Visit& visit) {
  if (matrix.dtype == DType::kF32) return visit(static_cast<const float*>(matrix.data));
  if (matrix.dtype == DType::kF16) return visit(static_cast<const Half*>(matrix.data));
  visit(static_cast<const BFloat16*>(matrix.data));
}

void float_panel(const FloatRows& x, int64_t m, const StoredMatrix& w, int64_t columns, int64_t k, float* out,
                 int64_t ldo) {
  with_type(w, [&](auto* data) { typed_float_panel(x, m, data, w.stride, columns, k, out, ldo); });
}

/// A packed panel, on its way from memory.
template <class T>
struct StreamedRows {
  const T* data;

  Lanes load(int64_t i, int half) const {
    const T* row = data + i * kPanel + half * kLanes;
    __builtin_prefetch(row + kPackedAhead / static_cast<int64_t>(sizeof(T)));
    return Lanes::load(row);
  }
};

void packed_float_panel(const StoredMatrix& panel, const FloatRows& x, int64_t m, int64_t k, float* out) {
  __builtin_memset(out, 0, sizeof(float) * static_cast<size_t>(m * kPanel));
  with_type(panel, [&]<class T>(const T* data) { float_tiles(x, m, StreamedRows<T>{data}, k, out, kPanel); });
}

void to_float(const StoredMatrix& from, int64_t count, float* to) {
  with_type(from, [&](auto* data) {
    for_lanes(count, [&](int64_t i, auto... some) { Lanes::load(data + i, some...).store(to + i, some...); });
  });
}

}  // namespace
}  // namespace tessera
