// A Batch in device memory: one block of memory, uploaded at once. Where its arrays lie, but for the pages of
// prefill, depends on the number of rows alone, so that a graph recorded for so many rows serves every such
// decode step.
#pragma once

#include "tessera/kernels/backend.h"
#include "tessera/kernels/cuda/attention/attention.h"
#include "tessera/kernels/cuda/backend/device_memory.h"

namespace tessera::cuda {

class CudaBatch : public DeviceBatch {
 public:
  /// For steps of up to max_rows rows.
  explicit CudaBatch(int64_t max_rows);
  ~CudaBatch() override;

  /// Copies `batch`, with rows behind its own that nothing reads up to `rows`.
  void upload(const Batch& batch, int64_t rows, cudaStream_t stream);

  int64_t rows() const override { return rows_; }
  /// Of the sequences with one row.
  int64_t spans() const { return spans_; }
  /// Rows of the sequences with several.
  std::span<const int64_t> prefill_rows() const { return prefill_rows_; }
  bool decodes_only() const { return prefill_rows_.empty(); }

  const AttentionCounts* counts() const { return memory_.as<AttentionCounts>(); }
  const int32_t* ids() const { return memory_.as<int32_t>(places_.ids); }
  const int32_t* positions() const { return memory_.as<int32_t>(places_.positions); }
  const int32_t* sequence() const { return memory_.as<int32_t>(places_.sequence); }
  const int32_t* row_page() const { return memory_.as<int32_t>(places_.row_page); }
  const int32_t* logit_rows() const { return memory_.as<int32_t>(places_.logit_rows); }
  const RowSpans* row_spans() const { return memory_.as<RowSpans>(places_.row_spans); }
  const PrefillRows* prefill() const { return memory_.as<PrefillRows>(places_.prefill); }
  const DecodeSpan* decode() const { return memory_.as<DecodeSpan>(places_.spans); }
  /// Of the sequences of prefill().
  const int32_t* pages() const { return memory_.as<int32_t>(places_.pages); }

 private:
  /// Offsets in bytes.
  struct Places {
    size_t ids, positions, sequence, row_page, logit_rows, row_spans, prefill, spans, pages;
    Places(int64_t rows, int64_t spans);
  };

  int64_t rows_ = 0, spans_ = 0;
  std::vector<int64_t> prefill_rows_;
  Places places_;
  DeviceBuffer memory_;
  PinnedBuffer staging_;
  cudaEvent_t copied_ = nullptr;
};

}  // namespace tessera::cuda
