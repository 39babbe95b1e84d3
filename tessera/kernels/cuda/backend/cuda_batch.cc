// Uploading a step.
#include "tessera/kernels/cuda/backend/cuda_batch.h"

#include <algorithm>
#include <cstring>

#include "tessera/base/error.h"
#include "tessera/kernels/cuda/check.h"

namespace tessera::cuda {
namespace {

/// Pages of all sequences of a step: 256 of 131,072 tokens.
constexpr size_t kMostPages = size_t{1} << 19;

/// Spans that a row at `position` sees.
int64_t spans_at(int64_t position) {
  return position / kSpanTokens + 1;
}

}  // namespace

CudaBatch::Places::Places(int64_t rows, int64_t count_of_spans) {
  size_t end = sizeof(AttentionCounts);
  const auto place = [&](size_t bytes) {
    const size_t begin = end;
    end += (bytes + 15) / 16 * 16;
    return begin;
  };
  const auto count = static_cast<size_t>(rows);
  for (size_t* array : {&ids, &positions, &sequence, &row_page, &logit_rows})
    *array = place(count * sizeof(int32_t));
  row_spans = place(count * sizeof(RowSpans));
  prefill = place(count * sizeof(PrefillRows));
  spans = place(static_cast<size_t>(count_of_spans) * sizeof(DecodeSpan));
  pages = end;
}

CudaBatch::CudaBatch(int64_t max_rows)
    : places_(max_rows, max_rows + kMostPages / kSpanPages),
      memory_(places_.pages + kMostPages * sizeof(int32_t)),
      staging_(memory_.bytes()) {
  check(cudaEventCreateWithFlags(&copied_, cudaEventDisableTiming), "cudaEventCreate");
}

CudaBatch::~CudaBatch() {
  cudaEventDestroy(copied_);
}

void CudaBatch::upload(const Batch& batch, int64_t rows, cudaStream_t stream) {
  if (batch.pages.size() > kMostPages) {
    throw Error("CUDA: a step over {} pages of keys and values; at most {} fit", batch.pages.size(),
                kMostPages);
  }
  check(cudaEventSynchronize(copied_), "waiting for the last upload");
  rows_ = rows;
  spans_ = 0;
  prefill_rows_.clear();
  for (int64_t s = 0; s < batch.sequences(); ++s) {
    if (batch.rows_of(s) == 1) spans_ += spans_at(batch.first_position(s));
  }
  places_ = Places(rows, spans_);
  const auto array = [&]<class T>(size_t place, T) { return reinterpret_cast<T*>(staging_.data() + place); };
  const auto copy = [&](const std::vector<int32_t>& from, size_t place, int32_t padding) {
    int32_t* const to = array(place, int32_t{});
    std::ranges::copy(from, to);
    std::fill(to + from.size(), to + rows, padding);
  };
  copy(batch.ids, places_.ids, 0);
  copy(batch.positions, places_.positions, 0);
  copy(batch.sequence, places_.sequence, -1);
  copy(batch.logit_rows, places_.logit_rows, 0);
  int32_t* const row_page = array(places_.row_page, int32_t{});
  for (size_t t = 0; t < batch.ids.size(); ++t) {
    row_page[t] = batch.pages_of(batch.sequence[t])[static_cast<size_t>(batch.positions[t] / kPageTokens)];
  }
  std::fill(row_page + batch.rows(), row_page + rows, -1);

  auto* const row_spans = array(places_.row_spans, RowSpans{});
  std::fill(row_spans, row_spans + rows, RowSpans{});
  auto* const prefill = array(places_.prefill, PrefillRows{});
  auto* const spans = array(places_.spans, DecodeSpan{});
  auto* const pages = array(places_.pages, int32_t{});
  int32_t next_span = 0, next_page = 0;
  for (int64_t s = 0; s < batch.sequences(); ++s) {
    const auto row = batch.first_row[static_cast<size_t>(s)];
    const auto position = static_cast<int32_t>(batch.first_position(s));
    const std::span<const int32_t> pages_of = batch.pages_of(static_cast<int32_t>(s));
    if (batch.rows_of(s) > 1) {
      prefill[prefill_rows_.size()] = {row, static_cast<int32_t>(batch.rows_of(s)), position, next_page};
      prefill_rows_.push_back(batch.rows_of(s));
      std::ranges::copy(pages_of, pages + next_page);
      next_page += static_cast<int32_t>(pages_of.size());
      continue;
    }
    const auto count = static_cast<int32_t>(spans_at(position));
    row_spans[row] = {next_span, count};
    for (int32_t i = 0; i < count; ++i) {
      DecodeSpan& span = spans[next_span++] = {row, position, i};
      const auto first = static_cast<size_t>(i * kSpanPages);
      std::ranges::copy(pages_of.subspan(first).first(std::min<size_t>(kSpanPages, pages_of.size() - first)),
                        span.page);
    }
  }
  *array(0, AttentionCounts{}) = {next_span, static_cast<int32_t>(prefill_rows_.size())};
  const size_t bytes = places_.pages + static_cast<size_t>(next_page) * sizeof(int32_t);
  check(cudaMemcpyAsync(memory_.data(), staging_.data(), bytes, cudaMemcpyHostToDevice, stream),
        "upload of a step");
  check(cudaEventRecord(copied_, stream), "cudaEventRecord");
}

}  // namespace tessera::cuda
