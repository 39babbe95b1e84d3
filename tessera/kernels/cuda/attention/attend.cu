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
  const int shared_heads = problem.heads / problem.pages.kv_heads;
  const int64_t blocks = spans * problem.pages.kv_heads * ((shared_heads + 15) / 16);
  with_shape(problem.pages, [&]<KvFormat kFormat, int kDim>() {
    const auto kernel =
        shared_heads <= 8 ? decode_kernel<kFormat, kDim, 8> : decode_kernel<kFormat, kDim, 16>;
    const int bytes = decode_shared_bytes<kDim>(shared_heads <= 8 ? 8 : 16);
    launch(kernel,
           {.blocks = blocks,
            .threads = 32 * kSpanPages,
            .shared = bytes,
            .stream = stream,
            .overlap_previous = overlap_previous},
           problem);
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
