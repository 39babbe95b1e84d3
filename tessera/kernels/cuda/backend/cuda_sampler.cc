// Draws and edits to the device, ids back.
#include "tessera/kernels/cuda/backend/cuda_sampler.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "tessera/base/philox.h"
#include "tessera/kernels/cuda/check.h"
#include "tessera/kernels/cuda/sample.h"

namespace tessera::cuda {

CudaSampler::CudaSampler(int64_t max_rows)
    : draws_(static_cast<size_t>(max_rows) * sizeof(RowDraw)),
      ids_(static_cast<size_t>(max_rows) * sizeof(int32_t)),
      staged_draws_(draws_.bytes()),
      staged_ids_(ids_.bytes()) {}

void CudaSampler::sample(const Rows& logits, std::span<const Draw> draws, std::span<int32_t> ids,
                         cudaStream_t stream) {
  assert(draws.size_bytes() > 0 && draws.size() * sizeof(RowDraw) <= draws_.bytes());
  size_t edits = 0;
  for (const Draw& draw : draws) edits += draw.edits.size();
  if (edits > 0 && (!edits_ || edits_->bytes() < edits * sizeof(LogitEdit))) {
    edits_ = std::make_unique<DeviceBuffer>(2 * edits * sizeof(LogitEdit));
    staged_edits_ = std::make_unique<PinnedBuffer>(edits_->bytes());
  }
  auto* const rows = reinterpret_cast<RowDraw*>(staged_draws_.data());
  int32_t first = 0;
  for (size_t i = 0; i < draws.size(); ++i) {
    const SamplingOptions& o = draws[i].options;
    const auto count = static_cast<int32_t>(draws[i].edits.size());
    rows[i] = {.temperature = o.temperature,
               .top_p = o.top_p,
               .min_p = o.min_p,
               .top_k = static_cast<int32_t>(std::min<int64_t>(o.top_k, logits.width)),
               .point = uniform(o.seed, draws[i].index),
               .first_edit = first,
               .edits = count};
    if (count == 0) continue;
    std::ranges::copy(draws[i].edits, reinterpret_cast<LogitEdit*>(staged_edits_->data()) + first);
    first += count;
  }
  const auto upload = [&](const PinnedBuffer& from, DeviceBuffer& to, size_t bytes) {
    check(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyHostToDevice, stream), "upload of draws");
  };
  upload(staged_draws_, draws_, draws.size() * sizeof(RowDraw));
  if (edits > 0) upload(*staged_edits_, *edits_, edits * sizeof(LogitEdit));
  cuda::sample({.logits = static_cast<float*>(logits.data),
                .stride = logits.stride,
                .rows = std::ssize(draws),
                .width = logits.width,
                .draws = draws_.as<const RowDraw>(),
                .edits = values_of<LogitEdit>(edits_),
                .ids = ids_.as<int32_t>()},
               stream);
  check(cudaMemcpyAsync(staged_ids_.data(), ids_.data(), ids.size_bytes(), cudaMemcpyDeviceToHost, stream),
        "download of ids");
  check(cudaStreamSynchronize(stream), "waiting for the device");
  std::memcpy(ids.data(), staged_ids_.data(), ids.size_bytes());
}

}  // namespace tessera::cuda
