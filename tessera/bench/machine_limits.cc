// Peak loops on all threads.
#include "tessera/bench/machine_limits.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <vector>

#include "tessera/base/cpu_info.h"
#include "tessera/base/parallel.h"
#include "tessera/kernels/cpu/isa.h"
#include "tessera/kernels/cpu/kernel_table.h"
#include "tessera/kernels/cpu/packed_weights.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRuns = 100;

/// The highest of amount / seconds over kRuns calls, in which every thread adds body(thread, run) to the
/// amount. A run takes a fraction of a millisecond, so that some of them escape whatever else the machine
/// does.
template <class Body>
double best_rate(const Body& body) {
  const int threads = thread_count();
  std::vector<double> amount(static_cast<size_t>(threads));
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    const auto start = Clock::now();
    parallel_for(threads,
                 [&](int64_t i) { amount[static_cast<size_t>(i)] = static_cast<double>(body(i, run)); });
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::max(best, std::accumulate(amount.begin(), amount.end(), 0.0) / seconds);
  }
  return best;
}

/// Each run and thread reads another piece of a buffer that no cache holds.
double measure_read_bandwidth(const CpuKernels& kernels) {
  constexpr int64_t kPiece = int64_t{8} << 20;
  const int64_t pieces = static_cast<int64_t>(4 * last_level_cache()) / kPiece + thread_count();
  AlignedBytes buffer(static_cast<size_t>(pieces * kPiece));
  return best_rate([&](int64_t thread, int64_t run) {
    const uint8_t* piece = buffer.data() + (run * thread_count() + thread) % pieces * kPiece;
    volatile float sink = kernels.read_floats(reinterpret_cast<const float*>(piece), kPiece / 4);
    static_cast<void>(sink);
    return kPiece;
  });
}

}  // namespace

size_t last_level_cache() {
  const long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return bytes > 0 ? static_cast<size_t>(bytes) : size_t{32} << 20;
}

MachineLimits measure_machine_limits(CpuIsa isa) {
  constexpr int64_t kRounds = 50000;
  const CpuKernels& kernels = kernels_for(isa);
  MachineLimits limits;
  limits.threads = thread_count();
  limits.integer_ops = best_rate([&](int64_t, int64_t) { return kernels.integer_peak(kRounds); });
  limits.float_ops = best_rate([&](int64_t, int64_t) { return kernels.float_peak(kRounds); });
  limits.read_bandwidth = measure_read_bandwidth(kernels);
  return limits;
}

nlohmann::json to_json(const MachineLimits& limits) {
  return {{"cpu", cpu_info().model},
          {"threads", limits.threads},
          {"integer_ops", limits.integer_ops},
          {"float_ops", limits.float_ops},
          {"read_bandwidth", limits.read_bandwidth}};
}

}  // namespace tessera
