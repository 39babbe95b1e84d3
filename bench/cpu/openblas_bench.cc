// The yardstick of `tessera bench gemm`: our float path beside OpenBLAS on the same layers.
// Usage: openblas_bench [MxNxK ...]     tokens x outputs x inputs; without any, the list of `tessera bench
// gemm`
#include <fmt/format.h>

#include "tessera/base/error.h"
#include "tessera/bench/gemm_bench.h"
#include "tessera/program/openblas_settings.h"
#include "tessera/program/terminal.h"

namespace tessera {
namespace {

class OpenBlasCandidate : public GemmCandidate {
 public:
  OpenBlasCandidate(int64_t n, int64_t k, size_t rotation_bytes)
      : n_(n),
        k_(k),
        copies_(rotating_copies(weight_bytes(), rotation_bytes)),
        weights_(random_float_weights(DType::kF32, copies_, n, k)) {}

  KernelInfo info() const override { return {"OpenBLAS sgemm", openblas_get_corename(), 32, 32}; }
  double weight_bytes() const override { return 4.0 * static_cast<double>(n_ * k_); }
  void run(const float* x, int64_t m, float* y) override {
    const float* w = weights_.as<float>().data() + next_++ % copies_ * n_ * k_;
    const auto rows = static_cast<int>(m), n = static_cast<int>(n_), k = static_cast<int>(k_);
    if (m == 1) {
      cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, 1.0f, w, k, x, 1, 0.0f, y, 1);
    } else {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n, k, 1.0f, x, k, w, k, 0.0f, y, n);
    }
  }

 private:
  int64_t n_, k_, copies_;
  Tensor weights_;
  int64_t next_ = 0;
};

void run(const std::vector<std::string>& arguments) {
  GemmBenchOptions options{.isa = detect_cpu_isa(), .shapes = {}, .formats = {GemmFormat::kF32}};
  for (const std::string& text : arguments) options.shapes.push_back(gemm_shape_from_text(text));
  if (options.shapes.empty()) options.shapes = default_gemm_shapes();
  const MachineLimits limits = measure_machine_limits(options.isa);
  Table table({"M", "N", "K", "OpenBLAS us", "GFLOP/s", "f32 us", "GFLOP/s", "f32 over OpenBLAS"});
  for (const GemmShape& shape : options.shapes) {
    OpenBlasCandidate candidate(shape.n, shape.k, options.rotation_bytes);
    const GemmResult blas = measure_gemm(candidate, shape, options.seconds, limits);
    GemmBenchOptions one = options;
    one.shapes = {shape};
    const GemmResult ours = bench_gemm(one, limits).front();
    table.add({std::to_string(shape.m), std::to_string(shape.n), std::to_string(shape.k),
               fmt::format("{:.0f}", blas.minimum * 1e6), fmt::format("{:.0f}", blas.ops / 1e9),
               fmt::format("{:.0f}", ours.minimum * 1e6), fmt::format("{:.0f}", ours.ops / 1e9),
               fmt::format("{:.2f}x", blas.minimum / ours.minimum)});
  }
  fmt::print("{}OpenBLAS with its {} kernels (OPENBLAS_CORETYPE chooses others), best times.\n", table.text(),
             openblas_get_corename());
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  using namespace tessera;
  restart_with(openblas_settings(), argv);
  try {
    run({argv + 1, argv + argc});
  } catch (const std::exception& e) {
    fmt::print(stderr, "openblas_bench: {}\n", e.what());
    return 2;
  }
  return 0;
}
