// The CPU backend: every operation of Backend, spread over the threads. All rows are floats.
#include "tessera/kernels/cpu/cpu_backend.h"

#include <cassert>
#include <cstring>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/format/joined_linear.h"
#include "tessera/kernels/cpu/attention.h"
#include "tessera/kernels/cpu/float_linear.h"
#include "tessera/kernels/cpu/norm.h"
#include "tessera/kernels/cpu/packed_linear.h"

namespace tessera {
namespace {

class CpuBuffer : public Buffer {
 public:
  explicit CpuBuffer(size_t bytes) : memory_(bytes), bytes_(bytes) {}
  void* data() override { return memory_.data(); }
  size_t bytes() const override { return bytes_; }

 private:
  AlignedBytes memory_;
  size_t bytes_;
};

struct CpuBatch : DeviceBatch {
  Batch batch;
  int64_t rows() const override { return batch.rows(); }
};

const Batch& host(const DeviceBatch& batch) {
  return static_cast<const CpuBatch&>(batch).batch;
}

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(CpuIsa isa) : kernels_(kernels_for(isa)) {}

  std::string name() const override {
    const int threads = thread_count();
    return fmt::format("cpu {}, {} thread{}", name_of(kernels_.isa), threads, threads == 1 ? "" : "s");
  }

  std::unique_ptr<Buffer> allocate(size_t bytes) override { return std::make_unique<CpuBuffer>(bytes); }
  void upload(std::span<const std::byte> from, Buffer& to) override {
    assert(from.size() <= to.bytes());
    std::memcpy(to.data(), from.data(), from.size());
  }
  RowBuffer make_rows(RowUse, int64_t count, int64_t width) override {
    auto memory = allocate(static_cast<size_t>(count * width) * sizeof(float));
    const Rows rows{memory->data(), DType::kF32, count, width, width};
    return {std::move(memory), rows};
  }
  void download(const Rows& from, std::span<float> to) override {
    for (int64_t i = 0; i < from.count; ++i) {
      std::copy_n(from.floats(i), from.width, &to[static_cast<size_t>(i * from.width)]);
    }
  }

  std::unique_ptr<InputFormat> float_input(int64_t width) override {
    return std::make_unique<RowPreparation>(width, kernels_);
  }
  std::unique_ptr<InputFormat> input_of(const QuantizedLinear& linear) override {
    return std::make_unique<RowPreparation>(linear, kernels_);
  }
  std::unique_ptr<Linear> load(std::span<const QuantizedLinear* const> parts,
                               const InputFormat& input) override {
    const auto& preparation = static_cast<const RowPreparation&>(input);
    if (parts.size() == 1) return std::make_unique<PackedLinear>(*parts[0], preparation, kernels_);
    return std::make_unique<PackedLinear>(join_outputs(parts), preparation, kernels_);
  }
  std::unique_ptr<Linear> load(std::span<const FloatWeight> parts, SumOrder order) override {
    return std::make_unique<FloatLinear>(parts, order, kernels_);
  }

  std::unique_ptr<LinearInput> make_input(int64_t max_rows, int64_t max_width) override {
    auto input = std::make_unique<CpuInput>();
    input->reserve_floats(max_rows, max_width);
    return input;
  }
  std::unique_ptr<KvPool> make_kv_pool(const KvShape& shape, int64_t pages) override {
    return std::make_unique<HostKvPool>(shape, pages);
  }
  std::unique_ptr<DeviceBatch> make_batch() override { return std::make_unique<CpuBatch>(); }
  void upload(const Batch& from, DeviceBatch& to) override { static_cast<CpuBatch&>(to).batch = from; }

  void embed(const EmbeddingTables& tables, const DeviceBatch& batch, const Rows& h) override {
    const Batch& b = host(batch);
    parallel_for(b.rows(), [&](int64_t t) {
      const auto row = static_cast<size_t>(t);
      static_cast<const FloatLinear&>(*tables.tokens).copy_row(b.ids[row], h.floats(t));
      if (tables.norm) kernels_.norm(h.floats(t), h.width, row_norm(*tables.norm), h.floats(t));
      if (!tables.positions) return;
      std::vector<float> place(static_cast<size_t>(h.width));
      static_cast<const FloatLinear&>(*tables.positions)
          .copy_row(b.positions[row] + tables.position_offset, place.data());
      kernels_.add(place.data(), h.width, h.floats(t));
    });
  }

  void add(const Rows& delta, const Rows& h) override {
    parallel_for(h.count, [&](int64_t t) { kernels_.add(delta.floats(t), h.width, h.floats(t)); });
  }

  void add_norm(const Rows& h, const Rows* delta, const NormWeights& weights, const InputFormat& format,
                LinearInput& out) override {
    const RowNorm how = row_norm(weights);
    produce(h.count, format, out, [&](int64_t t, float* row) {
      if (delta) kernels_.add(delta->floats(t), h.width, h.floats(t));
      kernels_.norm(h.floats(t), h.width, how, row);
      return static_cast<const float*>(row);
    });
  }

  void norm_wanted(const Rows& h, const Rows* delta, const DeviceBatch& batch, int64_t first, int64_t count,
                   const NormWeights& weights, const InputFormat& format, LinearInput& out) override {
    const RowNorm how = row_norm(weights);
    produce(count, format, out, [&](int64_t i, float* row) {
      const int32_t t = host(batch).logit_rows[static_cast<size_t>(first + i)];
      std::copy_n(h.floats(t), h.width, row);
      if (delta) kernels_.add(delta->floats(t), h.width, row);
      kernels_.norm(row, h.width, how, row);
      return static_cast<const float*>(row);
    });
  }

  void prepare(const Rows& x, const InputFormat& format, LinearInput& out) override {
    produce(x.count, format, out, [&](int64_t t, float*) -> const float* { return x.floats(t); });
  }

  void linear(const Linear& weights, const LinearInput& input, const Rows& out, bool accumulate) override {
    static_cast<const CpuLinear&>(weights).forward(static_cast<const CpuInput&>(input), out, accumulate);
  }

  void append(const Rows& q, const Rows& k, const Rows& v, const HeadRule& rule, const DeviceBatch& batch,
              int64_t layer, KvPool& pool) override {
    append_heads(kernels_, q, k, v, rule, host(batch), layer, static_cast<HostKvPool&>(pool));
  }

  void attention(const Rows& q, const DeviceBatch& batch, int64_t layer, const KvPool& pool,
                 const AttentionRule& rule, const InputFormat& format, LinearInput& out) override {
    float* memory = attention_.reserve(q.count * q.width);
    const Rows rows{memory, DType::kF32, q.count, q.width, q.width};
    attend_batch(kernels_, q, host(batch), layer, static_cast<const HostKvPool&>(pool), rule, rows);
    prepare(rows, format, out);
  }

  void glu(const Rows* gate, const Rows& up, GluActivation activation, const InputFormat& format,
           LinearInput& out) override {
    produce(up.count, format, out, [&](int64_t t, float* row) {
      kernels_.glu(gate ? gate->floats(t) : nullptr, up.floats(t), up.width, activation, row);
      return static_cast<const float*>(row);
    });
  }

  void sample(const Rows& logits, std::span<const Draw> draws, std::span<int32_t> ids) override {
    parallel_for(static_cast<int64_t>(draws.size()), [&](int64_t i) {
      const std::span<const float> row(logits.floats(i), static_cast<size_t>(logits.width));
      ids[static_cast<size_t>(i)] = sample_token(row, draws[static_cast<size_t>(i)]);
    });
  }

 private:
  /// Fills `out` in `format`. make_row(t, buffer) gives row t, in the buffer or elsewhere.
  template <class MakeRow>
  void produce(int64_t m, const InputFormat& format, LinearInput& out, const MakeRow& make_row) {
    const auto& preparation = static_cast<const RowPreparation&>(format);
    auto& input = static_cast<CpuInput&>(out);
    preparation.reserve(input, m);
    parallel_for(m,
                 [&](int64_t t) { preparation.prepare(make_row(t, preparation.row(input, t)), t, input); });
  }

  const CpuKernels& kernels_;
  Scratch<float> attention_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(CpuIsa isa) {
  if (!processor_has(isa)) throw Error("this processor lacks the instruction set {}", name_of(isa));
  return std::make_unique<CpuBackend>(isa);
}

}  // namespace tessera
