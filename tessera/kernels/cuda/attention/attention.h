// Paged attention on NVIDIA GPUs: storing heads and attending to them, over a whole step. It knows device
// memory and nothing of who owns it.
//
// A row's result does not depend on what else is in the step, on chunk borders, or on whether it ran alone
// (decode) or beside others of its sequence (prefill): every kernel computes the same page of 64 positions
// with the same instructions, and adds pages up in the same order, in spans of kSpanPages first and then span
// by span.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include "tessera/format/kv_format.h"

namespace tessera::cuda {

constexpr int kSpanPages = 4;  ///< that the warps of a block of the decode kernel read side by side
constexpr int kSpanTokens = 64 * kSpanPages;

/// Pages of one layer.
struct KvPages {
  KvFormat format = KvFormat::kF16;  ///< kF16, kInt8 or kInt4
  int head_dim = 0, kv_heads = 0;
  uint8_t* memory = nullptr;  ///< head 0 of page 0
  int64_t page_bytes = 0;     ///< from one page to the next; heads follow one another
};

/// 16-bit rows of heads.
struct HeadRows {
  void* data = nullptr;  ///< half
  int64_t stride = 0;    ///< elements
};

struct HeadNorm {
  const float* gain = nullptr;  ///< [head_dim]; null: no norm
  const float* bias = nullptr;  ///< LayerNorm's; null: RMSNorm, unless `layer_norm`
  float epsilon = 1e-5f;
  bool layer_norm = false;
};

/// Norms and rotates q and k, stores k and v.
struct AppendProblem {
  HeadRows q, k, v;
  int64_t rows = 0;
  int rows_of_warp = 1;  ///< that a warp looks at: 8 where sequences have several, see append.cu
  int heads = 0;
  HeadNorm query_norm, key_norm;
  const float *cos = nullptr, *sin = nullptr;  ///< [positions][head_dim / 2]; null: no rotation
  const int32_t* position = nullptr;           ///< [rows]
  const int32_t* sequence = nullptr;           ///< [rows]; neighbours with the same number are one sequence's
  const int32_t* page = nullptr;  ///< [rows]: where the row's position lies; -1: nothing is stored
  KvPages pages;
};

/// Neighbouring pages of a sequence with one row in the step.
struct alignas(16) DecodeSpan {
  int32_t row = 0, position = 0;
  int32_t index = 0;  ///< among the sequence's spans
  int32_t unused = 0;
  int32_t page[kSpanPages] = {};  ///< those that the sequence has
};

/// The spans of a row, in ascending order of positions; none: prefill computed it.
struct RowSpans {
  int32_t first = 0, count = 0;
};

/// What the decode kernel leaves of each span and head, to be added up (arithmetic.cuh) by those who read it:
/// the quantizer of activations.
struct SpanResults {
  float* out = nullptr;    ///< [spans][heads][head_dim]
  float2* ends = nullptr;  ///< [spans][heads]: the largest score, the sum of weights
  int heads = 0, head_dim = 0;
  const RowSpans* rows = nullptr;  ///< [rows]
};

/// Several neighbouring rows of one sequence.
struct PrefillRows {
  int32_t row = 0, count = 0;
  int32_t position = 0;  ///< of the first
  int32_t first_page = 0;
};

/// How many of each a step has, in device memory: they change between replays of a graph.
struct AttentionCounts {
  int32_t spans = 0, prefill_sequences = 0, unused[2] = {};
};

struct AttentionProblem {
  HeadRows q;
  HeadRows out;       ///< of rows that prefill computes
  SpanResults spans;  ///< of the others
  int heads = 0;
  KvPages pages;
  int32_t window = 0;                   ///< > 0: a row sees the last `window` positions
  const float* alibi_slopes = nullptr;  ///< [heads]
  const AttentionCounts* counts = nullptr;
  const DecodeSpan* decode = nullptr;
  const PrefillRows* prefill = nullptr;
  const int32_t* page_list = nullptr;  ///< of the sequences of `prefill`
};

/// Why heads of this shape cannot run; empty when they can.
std::string attention_obstacle(KvFormat format, int64_t head_dim, int64_t heads, int64_t kv_heads);

/// Tokens x heads of a task of the prefill kernel at most.
constexpr int prefill_rows(int head_dim) {
  return head_dim > 128 ? 64 : 128;
}
/// Blocks of the prefill kernel for each key head that `count` neighbouring rows take.
int64_t prefill_tasks(int64_t count, int heads, int kv_heads, int head_dim);

void append(const AppendProblem& problem, cudaStream_t stream, bool overlap_previous = false);
/// `spans`: as many as the step has, or more: those that it has not cost blocks that end at once.
void attend_decode(const AttentionProblem& problem, int64_t spans, cudaStream_t stream,
                   bool overlap_previous = false);
/// `tasks`: the sum of prefill_tasks() over the sequences.
void attend_prefill(const AttentionProblem& problem, int64_t tasks, cudaStream_t stream);

}  // namespace tessera::cuda
