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

void attend(const AttentionRows& rows) {
  const int64_t d = rows.head_dim, width = round_up(d, kPanel);
  alignas(64) float scores[kAttentionRows * kKeyBlock];
  alignas(64) float out[kAttentionRows * kMaxHeadDim];
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
      float_panel({rows.q, rows.stride}, rows.count, rows.keys.from(first + i), clamped(count - i, kPanel), d,
                  scores + i, kKeyBlock);
    }
    for (int64_t r = 0; r < rows.count; ++r) {
      const Sight sight = sight_of(rows, r);
      softmax_step(state, r, scale, clamped(sight.begin - first, kKeyBlock),
                   clamped(sight.end - first, kKeyBlock), scores + r * kKeyBlock, out + r * width, width);
    }
    with_type(rows.values.from(first), [&](auto* values) {
      for (int64_t i = 0; i < d; i += kPanel) {
        float_tiles({scores, kKeyBlock}, rows.count, StridedRows{values + i, rows.values.stride}, count,
                    out + i, width);
      }
    });
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
