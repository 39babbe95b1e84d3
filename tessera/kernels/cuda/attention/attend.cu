// The kernels of attention.h. Both compute pages by page.cuh and add them up in the order of spans.
#include <algorithm>

#include "tessera/kernels/cuda/attention/attention.h"
#include "tessera/kernels/cuda/attention/decode.cuh"
#include "tessera/kernels/cuda/attention/prefill.cuh"
#include "tessera/kernels/cuda/attention/shapes.h"
#include "tessera/kernels/cuda/check.h"
#include "tessera/kernels/cuda/launch.cuh"

namespace tessera::cuda {
void attend_decode(const AttentionProblem& problem, int64_t spans, cudaStream_t stream,
                   bool overlap_previous) {
  const int shared_heads = problem.heads / problem.pages.kv_heads, rows = std::min(shared_heads, kDecodeRows);
  const int64_t tiles = (shared_heads + kDecodeRows - 1) / kDecodeRows,
                units = spans * problem.pages.kv_heads;
  with_shape(problem.pages, [&]<KvFormat kFormat, int kDim>() {
    const auto run = [&]<int kRows>() {
      const auto bytes = [&](int slots) { return decode_shared_bytes({kFormat, kDim}, rows, slots); };
      const int room = device_attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor),
                reserved = device_attribute(cudaDevAttrReservedSharedMemoryPerBlock);
      const auto resident = [&](int slots) {
        const int blocks = std::min(kDecodeBlocks<kDim, kRows>, room / (bytes(slots) + reserved));
        return blocks * device_attribute(cudaDevAttrMultiProcessorCount) / tiles;
      };
      // A second slot hides latency; where it costs blocks, it pays only as long as all units run at once.
      const int slots = resident(2) == resident(1) || units <= resident(2) ? 2 : 1;
      const int64_t blocks = std::min(units, std::max<int64_t>(1, resident(slots)));
      launch(decode_kernel<kFormat, kDim, kRows>,
             {.blocks = blocks,
              .blocks_y = tiles,
              .threads = 32 * kSpanPages,
              .shared = bytes(slots),
              .stream = stream,
              .overlap_previous = overlap_previous},
             problem, DecodeGrid(problem, blocks, slots));
    };
    if (rows == 1) return run.template operator()<1>();
    if (rows <= 8) return run.template operator()<8>();
    run.template operator()<kDecodeRows>();
  });
}

void attend_prefill(const AttentionProblem& problem, int64_t tasks, cudaStream_t stream) {
  with_shape(problem.pages, [&]<KvFormat kFormat, int kDim>() {
    constexpr int kMost = kMostPrefillWarps<kDim>;
    const auto run = [&]<int kWarps>() {
      launch(prefill_kernel<kFormat, kDim, kWarps>,
             {.blocks = tasks * problem.pages.kv_heads * (kMost / kWarps),
              .threads = 32 * kWarps,
              .shared = kPrefillSharedBytes<kFormat, kDim, kWarps>,
              .stream = stream},
             problem);
    };
    const int room = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
    if (kPrefillSharedBytes<kFormat, kDim, kMost> <= room) return run.template operator()<kMost>();
    run.template operator()<kMost / 2>();
  });
}

}  // namespace tessera::cuda
