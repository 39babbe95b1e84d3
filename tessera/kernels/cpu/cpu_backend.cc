// The CPU backend: every operation of Backend, spread over the threads.
#include <cassert>
#include <cstring>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/kernels/cpu/attention.h"
#include "tessera/kernels/cpu/float_linear.h"
#include "tessera/kernels/cpu/isa.h"
#include "tessera/kernels/cpu/packed_linear.h"

namespace tessera {
namespace {

class CpuBuffer : public Buffer {
 public:
  explicit CpuBuffer(size_t bytes) : memory_(bytes + kOverread), bytes_(bytes) {}
  void* data() override { return memory_.data(); }
  size_t bytes() const override { return bytes_; }

 private:
  static constexpr size_t kOverread = 4 * kPanel;  ///< attention reads whole panels of the last value row
  AlignedBytes memory_;
  size_t bytes_;
};

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(CpuIsa isa) : kernels_(kernels_for(isa)) {}

  std::string name() const override {
    const int threads = thread_count();
    return fmt::format("cpu {}, {} thread{}", name_of(kernels_.isa), threads, threads == 1 ? "" : "s");
  }

  std::unique_ptr<Buffer> allocate(size_t bytes) override { return std::make_unique<CpuBuffer>(bytes); }
  void upload(Buffer& to, std::span<const std::byte> from) override {
    assert(from.size() <= to.bytes());
    std::memcpy(to.data(), from.data(), from.size());
  }
  void download(const float* from, std::span<float> to) override {
    std::memcpy(to.data(), from, to.size_bytes());
  }

  std::unique_ptr<Linear> load(const QuantizedLinear& linear) override {
    return std::make_unique<PackedLinear>(linear, kernels_);
  }
  std::unique_ptr<Linear> load(const TensorView& weight, std::span<const float> bias) override {
    return std::make_unique<FloatLinear>(weight, bias, kernels_);
  }
  std::unique_ptr<LinearInput> make_input(int64_t max_tokens, int64_t max_width) override {
    auto input = std::make_unique<CpuInput>();
    input->reserve_floats(max_tokens, max_width);
    return input;
  }

  void embed(const Linear& table, std::span<const int32_t> ids, float* out) override {
    const auto& rows = dynamic_cast<const FloatLinear&>(table);
    for (int32_t id : ids) {
      rows.copy_row(id, out);
      out += rows.k_in();
    }
  }

  void norm(const float* x, int64_t m, const NormWeights& weights, const Linear& reader,
            LinearInput& out) override {
    const int64_t width = reader.k_in();
    const RowNorm how = row_norm(weights);
    produce(m, reader, out, [&](int64_t t, float* row) {
      kernels_.norm(x + t * width, width, how, row);
      return static_cast<const float*>(row);
    });
  }

  void normalize(float* x, int64_t rows, int64_t width, const NormWeights& weights) override {
    const RowNorm how = row_norm(weights);
    parallel_for(rows, [&](int64_t r) { kernels_.norm(x + r * width, width, how, x + r * width); });
  }

  void prepare(const float* x, int64_t m, const Linear& reader, LinearInput& out) override {
    produce(m, reader, out, [&](int64_t t, float*) { return x + t * reader.k_in(); });
  }

  void glu(const float* gate, const float* up, int64_t m, GluActivation activation, const Linear& reader,
           LinearInput& out) override {
    const int64_t width = reader.k_in();
    produce(m, reader, out, [&](int64_t t, float* row) {
      kernels_.glu(gate ? gate + t * width : nullptr, up + t * width, width, activation, row);
      return static_cast<const float*>(row);
    });
  }

  void linear(const Linear& weights, const LinearInput& input, int64_t m, float* y,
              bool accumulate) override {
    static_cast<const CpuLinear&>(weights).forward(static_cast<const CpuInput&>(input), m, y, accumulate);
  }

  void rope(float* q, float* k, int64_t m, int64_t first, int64_t n_heads, int64_t n_kv_heads,
            int64_t head_dim, const RopeTable& table) override {
    rotate_heads(q, m, first, n_heads, head_dim, table.cos->floats(), table.sin->floats());
    rotate_heads(k, m, first, n_kv_heads, head_dim, table.cos->floats(), table.sin->floats());
  }

  void append(KvCache& cache, int64_t layer, const float* k, const float* v, int64_t m) override {
    append_to_cache(kernels_, cache, layer, k, v, m);
  }

  void attention(const float* q, const KvCache& cache, int64_t layer, int64_t m, int64_t n_heads,
                 const AttentionRule& rule, float* out) override {
    attend_all(kernels_, q, cache, layer, m, n_heads, rule, out);
  }

  void add(const float* x, int64_t count, float* y) override {
    for (int64_t i = 0; i < count; ++i) y[i] += x[i];
  }

 private:
  static RowNorm row_norm(const NormWeights& weights) {
    return {weights.layer_norm, weights.eps, weights.gain->floats(),
            weights.bias ? weights.bias->floats() : nullptr};
  }

  /// Fills `out` for `reader`. make_row(t, buffer) gives row t, in the buffer or elsewhere.
  template <class MakeRow>
  void produce(int64_t m, const Linear& reader, LinearInput& out, const MakeRow& make_row) {
    const auto& linear = static_cast<const CpuLinear&>(reader);
    auto& input = static_cast<CpuInput&>(out);
    linear.reserve(input, m);
    parallel_for(m, [&](int64_t t) { linear.prepare_row(make_row(t, linear.row(input, t)), t, input); });
  }

  const CpuKernels& kernels_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(CpuIsa isa) {
  if (!processor_has(isa)) throw Error("this processor lacks the instruction set {}", name_of(isa));
  return std::make_unique<CpuBackend>(isa);
}

}  // namespace tessera
