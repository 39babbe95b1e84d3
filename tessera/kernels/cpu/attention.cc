// Operations on heads, spread over the threads.
#include "tessera/kernels/cpu/attention.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/kernels/cpu/norm.h"

namespace tessera {
namespace {

void check_width(const KvShape& shape) {
  if (shape.head_dim <= kMaxHeadDim) return;
  throw Error("heads of {} dimensions are too wide; the CPU kernels support up to {}", shape.head_dim,
              kMaxHeadDim);
}

/// One head of one token: pairs (i, i + head_dim / 2) turn by the angle of its position.
void rotate(float* head, int64_t half, const float* cosines, const float* sines) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = head[i], b = head[i + half];
    head[i] = a * cosines[i] - b * sines[i];
    head[i + half] = b * cosines[i] + a * sines[i];
  }
}

/// x [head_dim] as quantize_kv() defines it, with the quantizer of the activations: a byte a code.
KvScale quantize_head(const CpuKernels& kernels, const float* x, int64_t d, KvFormat format, uint8_t* codes) {
  alignas(64) int8_t signed_codes[kMaxHeadDim];
  int16_t pair_sum[kMaxHeadDim / kKBlock * 2];
  float scale;
  int32_t zero_point, sum;
  RowQuantizer how;
  how.kind = RowQuantizer::Kind::kAsymmetric;
  how.bits = kv_bits(format);
  kernels.quantize(x, d, round_up(d, kKBlock), how,
                   {signed_codes, kMaxHeadDim, &scale, &zero_point, &sum, pair_sum});
  const int half = 1 << (how.bits - 1);
  for (int64_t i = 0; i < d; ++i) codes[i] = static_cast<uint8_t>(signed_codes[i] + half);
  return {scale, static_cast<float>(zero_point + half)};
}

/// Codes [head_dim] as the bytes that the cache holds, in place: two to a byte with four bits.
void pack_codes(KvFormat format, int64_t d, uint8_t* codes) {
  if (format != KvFormat::kInt4) return;
  for (int64_t i = 0; i < d / 2; ++i) codes[i] = pack_nibbles(codes[i], codes[i + d / 2]);
}

/// Stores heads of one layer into their slots of a pool.
class HeadStore {
 public:
  HeadStore(const CpuKernels& kernels, const HostKvPool& pool) : kernels_(kernels), pool_(pool) {}

  void store_key(const float* x, uint8_t* block, int64_t slot) const {
    const auto [format, d] = std::pair(pool_.shape().format, pool_.shape().head_dim);
    if (format == KvFormat::kF32) return scatter(x, d, reinterpret_cast<float*>(block) + slot);
    if (format == KvFormat::kF16) {
      Half halves[kMaxHeadDim];
      kernels_.to_half(x, d, halves);
      return scatter(halves, d, reinterpret_cast<Half*>(block) + slot);
    }
    uint8_t codes[kMaxHeadDim];
    const KvScale how = quantize_head(kernels_, x, d, format, codes);
    pack_codes(format, d, codes);
    scatter(codes, kv_row_bytes(format, d), block + slot);
    auto* scales = reinterpret_cast<float*>(block + pool_.layout().key_scales);
    scales[slot] = how.scale;
    scales[kPageTokens + slot] = how.zero;
  }

  void store_value(const float* x, uint8_t* block, int64_t slot) const {
    const auto [format, d] = std::pair(pool_.shape().format, pool_.shape().head_dim);
    const int64_t bytes = kv_row_bytes(format, d);
    uint8_t* row = block + pool_.layout().values + slot * bytes;
    if (format == KvFormat::kF32) {
      std::memcpy(row, x, static_cast<size_t>(bytes));
    } else if (format == KvFormat::kF16) {
      kernels_.to_half(x, d, reinterpret_cast<Half*>(row));
    } else {
      uint8_t codes[kMaxHeadDim];
      auto* scales = reinterpret_cast<KvScale*>(block + pool_.layout().value_scales);
      scales[slot] = quantize_head(kernels_, x, d, format, codes);
      pack_codes(format, d, codes);
      std::memcpy(row, codes, static_cast<size_t>(bytes));
    }
  }

 private:
  /// Element i of `from` to column i of a page, kPageTokens elements apart.
  template <class T>
  static void scatter(const T* from, int64_t count, T* to) {
    for (int64_t i = 0; i < count; ++i) to[i * kPageTokens] = from[i];
  }

  const CpuKernels& kernels_;
  const HostKvPool& pool_;
};

/// A call of attend(): rows of one sequence that share a key head.
struct AttentionTask {
  int64_t sequence;
  int64_t row, rows;    ///< rows of the batch; one: `heads` of a single token
  int64_t head, heads;  ///< query heads
};

/// Tasks of all sequences, the longest first where sequences are cut into blocks of tokens: later blocks see
/// more.
std::vector<AttentionTask> attention_tasks(const Batch& batch, int64_t n_heads, int64_t n_kv_heads) {
  const int64_t shared = n_heads / n_kv_heads, together = std::min(shared, kAttentionRows);
  std::vector<AttentionTask> tasks;
  for (int64_t s = 0; s < batch.sequences(); ++s) {
    const int64_t first = batch.first_row[static_cast<size_t>(s)], m = batch.rows_of(s);
    if (m == 1) {
      for (int64_t head = 0; head < n_heads; head += shared) {
        for (int64_t i = 0; i < shared; i += together) {
          tasks.push_back({s, first, 1, head + i, std::min(together, shared - i)});
        }
      }
      continue;
    }
    for (int64_t begin = (m - 1) / kAttentionRows * kAttentionRows; begin >= 0; begin -= kAttentionRows) {
      for (int64_t head = 0; head < n_heads; ++head) {
        tasks.push_back({s, first + begin, std::min(kAttentionRows, m - begin), head, 1});
      }
    }
  }
  return tasks;
}

}  // namespace

void append_heads(const CpuKernels& kernels, const Rows& q, const Rows& k, const Rows& v,
                  const HeadRule& rule, const Batch& batch, int64_t layer, HostKvPool& pool) {
  check_width(pool.shape());
  const int64_t d = pool.shape().head_dim, n_heads = q.width / d, n_kv_heads = pool.shape().n_kv_heads;
  const HeadStore store(kernels, pool);
  const auto prepare = [&](float* head, const NormWeights* norm, int64_t position) {
    if (norm) kernels.norm(head, d, row_norm(*norm), head);
    if (rule.rope) {
      const int64_t half = d / 2;
      rotate(head, half, rule.rope->cos->floats() + position * half,
             rule.rope->sin->floats() + position * half);
    }
  };
  parallel_for(batch.rows(), [&](int64_t t) {
    const auto row = static_cast<size_t>(t);
    const int64_t position = batch.positions[row], slot = position % kPageTokens;
    const int32_t page = batch.pages_of(batch.sequence[row])[static_cast<size_t>(position / kPageTokens)];
    for (int64_t h = 0; h < n_heads; ++h) prepare(q.floats(t) + h * d, rule.query_norm, position);
    for (int64_t h = 0; h < n_kv_heads; ++h) {
      uint8_t* block = pool.head(page, layer, h);
      prepare(k.floats(t) + h * d, rule.key_norm, position);
      store.store_key(k.floats(t) + h * d, block, slot);
      store.store_value(v.floats(t) + h * d, block, slot);
    }
  });
}

void attend_batch(const CpuKernels& kernels, const Rows& q, const Batch& batch, int64_t layer,
                  const HostKvPool& pool, const AttentionRule& rule, const Rows& out) {
  const KvShape& shape = pool.shape();
  check_width(shape);
  const int64_t d = shape.head_dim, n_heads = q.width / d, shared = n_heads / shape.n_kv_heads;
  const std::vector<AttentionTask> tasks = attention_tasks(batch, n_heads, shape.n_kv_heads);
  parallel_for_dynamic(static_cast<int64_t>(tasks.size()), [&](int64_t i) {
    const AttentionTask& task = tasks[static_cast<size_t>(i)];
    const bool one_token = task.rows == 1;
    AttentionRows rows;
    rows.q = {q.floats(task.row) + task.head * d, one_token ? d : q.stride};
    rows.out = out.floats(task.row) + task.head * d;
    rows.out_stride = one_token ? d : out.stride;
    rows.count = one_token ? task.heads : task.rows;
    rows.first_position = batch.positions[static_cast<size_t>(task.row)];
    rows.position_step = one_token ? 0 : 1;
    rows.window = rule.window;
    rows.alibi = rule.alibi_slopes ? rule.alibi_slopes + task.head : nullptr;
    rows.alibi_step = one_token ? 1 : 0;
    rows.cache = {.format = shape.format,
                  .memory = pool.head(0, layer, task.head / shared),
                  .page_bytes = shape.page_bytes(),
                  .pages = batch.pages_of(task.sequence).data(),
                  .key_scales = pool.layout().key_scales,
                  .values = pool.layout().values,
                  .value_scales = pool.layout().value_scales};
    rows.head_dim = d;
    kernels.attend(rows);
  });
}

}  // namespace tessera
