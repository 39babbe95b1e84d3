// Random attention on any backend, compared with the reference. Test code only.
#pragma once

#include <cmath>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <numeric>
#include <vector>

#include "tessera/format/random_layer.h"
#include "tessera/kernels/cpu/cpu_input.h"
#include "tessera/kernels/host_kv_pool.h"
#include "tessera/kernels/ref/reference_backend.h"
#include "tessera/kernels/ref/reference_input.h"
#include "tessera/kernels/single_linear.h"

namespace tessera {

struct Shape3 {
  int64_t n_heads, n_kv_heads, head_dim;

  int64_t q_width() const { return n_heads * head_dim; }
  int64_t kv_width() const { return n_kv_heads * head_dim; }
};

/// AttentionRule with slopes of its own for every head.
struct Rule {
  int64_t window = 0;
  bool alibi = false;
};

/// Random queries, keys and values of one sequence, and what a backend makes of them step by step.
class Sequence {
 public:
  /// Pages in an order of their own, with NaN wherever nothing was appended.
  Sequence(Backend& backend, const Shape3& shape, int64_t tokens, KvFormat format, unsigned seed = 1)
      : backend_(backend),
        shape_(shape),
        q_(random_floats(tokens * shape.q_width(), 3 * seed)),
        k_(random_floats(tokens * shape.kv_width(), 3 * seed + 1)),
        v_(random_floats(tokens * shape.kv_width(), 3 * seed + 2)),
        slopes_(random_floats(shape.n_heads, 4, 0.1f)),
        pages_(static_cast<size_t>(pages_for(tokens))),
        pool_(backend.make_kv_pool({1, shape.n_kv_heads, shape.head_dim, format}, std::ssize(pages_))) {
    std::iota(pages_.rbegin(), pages_.rend(), 0);
    auto& pool = static_cast<HostKvPool&>(*pool_);
    std::memset(pool.head(0, 0, 0), 0xff, pool.bytes());  // NaN in every type
  }

  /// Attention of the next m tokens, [m, q_width].
  std::vector<float> step(int64_t m, const Rule& rule = {}) {
    Batch batch;
    batch.add(std::vector<int32_t>(static_cast<size_t>(m)), length_, pages_, WantedLogits::none(m));
    const auto device_batch = backend_.make_batch();
    backend_.upload(batch, *device_batch);
    const auto rows = [&](std::vector<float>& values, int64_t width) {
      return host_rows(&values[static_cast<size_t>(length_ * width)], m, width);
    };
    const Rows q = rows(q_, shape_.q_width());
    backend_.append(q, rows(k_, shape_.kv_width()), rows(v_, shape_.kv_width()), {}, *device_batch, 0,
                    *pool_);
    const int64_t width = shape_.q_width();
    const auto format = backend_.float_input(width);
    const auto input = backend_.make_input(m, width);
    backend_.attention(q, *device_batch, 0, *pool_,
                       {.window = rule.window, .alibi_slopes = rule.alibi ? slopes_.data() : nullptr},
                       *format, *input);
    length_ += m;
    return prepared_rows(*input, m, width);
  }
  std::vector<float> steps(std::initializer_list<int64_t> sizes, const Rule& rule = {}) {
    std::vector<float> all;
    for (int64_t m : sizes) {
      const auto out = step(m, rule);
      all.insert(all.end(), out.begin(), out.end());
    }
    return all;
  }

 private:
  static std::vector<float> prepared_rows(const LinearInput& input, int64_t m, int64_t width) {
    const auto* cpu = dynamic_cast<const CpuInput*>(&input);
    if (!cpu) {
      const auto rows = static_cast<const ReferenceInput&>(input).rows(m);
      return {rows.begin(), rows.end()};
    }
    std::vector<float> all;
    for (int64_t t = 0; t < m; ++t) {
      const float* row = cpu->floats().from(t).data;
      all.insert(all.end(), row, row + width);
    }
    return all;
  }

  Backend& backend_;
  Shape3 shape_;
  std::vector<float> q_, k_, v_, slopes_;
  std::vector<int32_t> pages_;
  std::unique_ptr<KvPool> pool_;
  int64_t length_ = 0;
};

/// Attention of m tokens behind `past` others.
inline std::vector<float> run_attention(Backend& backend, const Shape3& shape, int64_t past, int64_t m,
                                        const Rule& rule, KvFormat format) {
  Sequence sequence(backend, shape, past + m, format);
  if (past > 0) sequence.step(past, rule);
  return sequence.step(m, rule);
}

/// How far attention of `tokens` tokens may be from the reference. A score errs by at most gamma_d * |q| |k|
/// / sqrt(d), here below d * 2^-24 * 2 sqrt(d); weights err by the same relative amount twice (numerator and
/// sum), and sum to one over values below 5.
inline double attention_bound(const Shape3& shape, int64_t tokens) {
  const auto d = static_cast<double>(shape.head_dim);
  return 5 * (2 * d * 0x1p-24 * 2 * std::sqrt(d) + static_cast<double>(tokens + 64) * 0x1p-24);
}

}  // namespace tessera
