// Sampling: a thread block a row. Tokens are never sorted; where a draw depends on their order, the token at
// which a sum over the likelier ones reaches its aim is found digit by digit of the logit (radix selection).
#include "tessera/kernels/cuda/launch.cuh"
#include "tessera/kernels/cuda/sample.h"

namespace tessera::cuda {
namespace {

constexpr int kThreads = 1024, kWarps = kThreads / 32;

__device__ __forceinline__ int lane_id() {
  return static_cast<int>(threadIdx.x % 32);
}
__device__ __forceinline__ int warp_id() {
  return static_cast<int>(threadIdx.x / 32);
}

constexpr double kUnit = 0x1p40;  ///< mass of the likeliest token
constexpr int kDigitBits = 11, kBins = 1 << kDigitBits;

using Mass = unsigned long long;

/// Unsigned numbers in the order of floats.
__device__ __forceinline__ uint32_t key_of(float logit) {
  const uint32_t bits = __float_as_uint(logit + 0.0f);  // -0 counts as 0
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

/// The sum of x over this lane and those below.
__device__ Mass sum_of_lanes_up_to(Mass x) {
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const Mass other = __shfl_up_sync(~0u, x, distance);
    if (lane_id() >= distance) x += other;
  }
  return x;
}

/// A place in the order of tokens: likeliest first, low ids first among equals.
struct Place {
  uint32_t key = 0;
  int32_t id = INT32_MAX;

  /// Whether the token stands at this place or in front of it.
  __device__ bool reaches(uint32_t its_key, int64_t its_id) const {
    return its_key > key || (its_key == key && its_id <= id);
  }
};

struct Shared {
  Mass bins[kBins];
  Mass of_warp[kWarps];
  Mass aim;  ///< what is left of it
  uint32_t digit;
  int32_t id;
};

/// The row of a block, and the sums over it. All threads call all functions.
class Row {
 public:
  __device__ Row(float* logits, int64_t width, Shared& shared) : logits_(logits), width_(width), s_(shared) {}

  /// The likeliest token; id -1 where a logit is NaN or none is finite.
  __device__ Place find_best() {
    Place best;
    best.id = -1;
    bool nan = false;
    for (int64_t i = threadIdx.x; i < width_; i += kThreads) {
      nan = nan || isnan(logits_[i]);
      const uint32_t key = key_of(logits_[i]);
      if (best.id < 0 || key > best.key) best = {key, static_cast<int32_t>(i)};
    }
    nan = __syncthreads_or(nan);
    // Ids grow within a thread, so the lowest of equals wins with the larger complement.
    Mass packed = best.id < 0 ? 0 : Mass{best.key} << 32 | ~static_cast<uint32_t>(best.id);
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      packed = max(packed, __shfl_xor_sync(~0u, packed, distance));
    }
    if (lane_id() == 0) s_.of_warp[warp_id()] = packed;
    __syncthreads();
    for (const Mass other : s_.of_warp) packed = max(packed, other);
    __syncthreads();
    best = {static_cast<uint32_t>(packed >> 32), static_cast<int32_t>(~static_cast<uint32_t>(packed))};
    best_ = logits_[best.id];
    if (nan || !isfinite(best_)) best.id = kNoToken;
    return best;
  }

  /// Sets what tokens weigh from now on.
  __device__ void set_draw(const RowDraw& draw) {
    draw_ = draw;
  }
  /// Tokens behind `end` weigh nothing from now on.
  __device__ void cut(const Place& end) {
    end_ = end;
  }

  /// 1 or 0.
  __device__ Mass count_of(int64_t id) const {
    return end_.reaches(key_of(logits_[id]), id) ? 1 : 0;
  }
  /// Probability in units of kUnit; 0 below min_p.
  __device__ Mass mass_of(int64_t id) const {
    if (count_of(id) == 0) return 0;
    const double share = exp((double{logits_[id]} - double{best_}) / double{draw_.temperature});
    return share < double{draw_.min_p} ? 0 : static_cast<Mass>(share * kUnit + 0.5);
  }

  /// The sum of weight(id), in every thread.
  template <class Weight>
  __device__ Mass sum(const Weight& weight) {
    Mass total = 0;
    for (int64_t i = threadIdx.x; i < width_; i += kThreads) total += weight(i);
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) total += __shfl_xor_sync(~0u, total, distance);
    if (lane_id() == 0) s_.of_warp[warp_id()] = total;
    __syncthreads();
    total = 0;
    for (const Mass part : s_.of_warp) total += part;
    __syncthreads();
    return total;
  }

  /// The first token, by id, with which the sum of weight(id) reaches `aim` >= 1, which the whole sum does.
  template <class Weight>
  __device__ int32_t find_by_id(const Weight& weight, Mass aim) {
    const int64_t run = (width_ + kThreads - 1) / kThreads, first = threadIdx.x * run;
    const int64_t last = min(first + run, width_);
    Mass mine = 0;
    for (int64_t i = first; i < last; ++i) mine += weight(i);
    Mass before = sum_of_lanes_up_to(mine);
    if (lane_id() == 31) s_.of_warp[warp_id()] = before;
    __syncthreads();
    before -= mine;
    for (int warp = 0; warp < warp_id(); ++warp) before += s_.of_warp[warp];
    if (before < aim && before + mine >= aim) {
      int64_t id = first;
      for (before += weight(id); before < aim; before += weight(id)) ++id;
      s_.id = static_cast<int32_t>(id);
    }
    __syncthreads();
    const int32_t id = s_.id;
    __syncthreads();
    return id;
  }

  /// The same in the order of tokens.
  template <class Weight>
  __device__ Place find_by_rank(const Weight& weight, Mass aim) {
    uint32_t key = 0;
    int known = 0;  // leading bits of the key
    while (known < 32) {
      const int bits = min(kDigitBits, 32 - known), shift = 32 - known - bits;
      for (int i = threadIdx.x; i < kBins; i += kThreads) s_.bins[i] = 0;
      __syncthreads();
      for (int64_t i = threadIdx.x; i < width_; i += kThreads) {
        const uint32_t its_key = key_of(logits_[i]);
        if (known > 0 && its_key >> (32 - known) != key >> (32 - known)) continue;
        if (const Mass w = weight(i); w > 0) atomicAdd(&s_.bins[its_key >> shift & ((1u << bits) - 1)], w);
      }
      __syncthreads();
      if (threadIdx.x < 32) find_bin(aim, 1 << bits);
      __syncthreads();
      key |= s_.digit << shift;
      aim = s_.aim;
      known += bits;
      __syncthreads();
    }
    const auto equal = [&](int64_t i) { return key_of(logits_[i]) == key ? weight(i) : 0; };
    return {key, find_by_id(equal, aim)};
  }

 private:
  /// By one warp: the highest bin with which the sum of the bins from above reaches `aim`, and what is left
  /// of the aim there.
  __device__ void find_bin(Mass aim, int bins) {
    const int run = bins / 32, top = bins - 1 - lane_id() * run;
    Mass mine = 0;
    for (int i = 0; i < run; ++i) mine += s_.bins[top - i];
    Mass before = sum_of_lanes_up_to(mine) - mine;
    if (before >= aim || before + mine < aim) return;
    int bin = top;
    while (before + s_.bins[bin] < aim) before += s_.bins[bin--];
    s_.digit = static_cast<uint32_t>(bin);
    s_.aim = aim - before;
  }

  float* logits_;
  int64_t width_;
  Shared& s_;
  float best_ = 0;
  RowDraw draw_ = {};
  Place end_ = {};
};

/// The least whole mass above `share` of `total`, but no more than all.
__device__ Mass beyond(double share, Mass total) {
  return min(static_cast<Mass>(share * static_cast<double>(total)) + 1, total);
}

__global__ void __launch_bounds__(kThreads) sample_kernel(const __grid_constant__ SampleProblem p) {
  __shared__ Shared shared;
  const RowDraw draw = p.draws[blockIdx.x];
  float* const logits = p.logits + blockIdx.x * p.stride;
  for (int i = threadIdx.x; i < draw.edits; i += kThreads) {
    const LogitEdit edit = p.edits[draw.first_edit + i];
    logits[edit.id] = edit(logits[edit.id]);
  }
  __syncthreads();
  Row row(logits, p.width, shared);
  int32_t id = row.find_best().id;
  if (id != kNoToken && draw.temperature > 0) {
    row.set_draw(draw);
    const auto mass = [&](int64_t i) { return row.mass_of(i); };
    if (draw.top_k > 0 && draw.top_k < p.width) {
      row.cut(row.find_by_rank([&](int64_t i) { return row.count_of(i); }, draw.top_k));
    }
    Mass total = row.sum(mass);
    const bool ranked = draw.top_k > 0 || draw.top_p < 1;
    if (draw.top_p < 1) {
      const double share = ceil(double{draw.top_p} * static_cast<double>(total));
      row.cut(row.find_by_rank(mass, max(static_cast<Mass>(share), Mass{1})));
      total = row.sum(mass);
    }
    const Mass aim = beyond(draw.point, total);
    id = ranked ? row.find_by_rank(mass, aim).id : row.find_by_id(mass, aim);
  }
  if (threadIdx.x == 0) p.ids[blockIdx.x] = id;
}

}  // namespace

void sample(const SampleProblem& problem, cudaStream_t stream) {
  launch(sample_kernel, {.blocks = problem.rows, .threads = kThreads, .stream = stream}, problem);
}

}  // namespace tessera::cuda
