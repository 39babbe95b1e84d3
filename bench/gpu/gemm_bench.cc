// Times the CUDA GEMM beside cuBLAS FP16 and cuBLASLt INT8 and FP8 in one process: CUDA graphs over weight
// copies that exceed L2, median of replays; a pause before each timing of 512 tokens or more. One JSON object
// a line on standard output. Numbers are tokens; KxN is a layer to time instead of those of the models.
//   gemm_bench compare [KxN ...] [M ...]     ours as dispatched (plain, with overlapping launches), baselines
//   gemm_bench outliers [KxN ...] [M ...]    only W4A4 with outliers (QUIK), beside cuBLAS FP16
//   gemm_bench sm80 [KxN ...] [M ...]        the kernels for 8.0, as dispatched there, beside cuBLAS FP16
//   gemm_bench tune KIND [KxN ...] [M ...]   every configuration of int4, int8, g128, g64 or g32, input of
//                                            fit_cost_model.py; or of int4 with "outliers"
//   gemm_bench borders [KxN ...] [M ...]     what one token more costs than a full tile; where that is over a
//                                            tenth, also the fastest of all configurations ("best")
#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <thread>

#include "bench/gpu/device.h"
#include "tessera/base/error.h"
#include "tessera/kernels/cuda/cost_model.h"
#include "tessera/kernels/cuda/packed_weights.h"
#include "tessera/kernels/cuda/sm80/configs.h"

namespace tessera::bench {
namespace {

using cuda::GemmConfig;
using cuda::GemmProblem;
using cuda::WeightLayout;

struct LayerShape {
  const char* model;
  int64_t k, n;
};
constexpr LayerShape kShapes[] = {{"7b", 4096, 4096},   {"7b", 4096, 12288},  {"7b", 4096, 22016},
                                  {"7b", 11008, 4096},  {"13b", 5120, 5120},  {"13b", 5120, 15360},
                                  {"13b", 5120, 27648}, {"13b", 13824, 5120}, {"70b", 8192, 10240},
                                  {"70b", 8192, 8192},  {"70b", 8192, 57344}, {"70b", 28672, 8192}};
/// Every timing cycles through at least this many bytes of weights.
constexpr int64_t kRotatingBytes = 256 << 20;
constexpr int64_t kPoolBytes = int64_t{1} << 30;  ///< at least

/// The largest of what is timed.
struct Extent {
  int64_t tokens = 0, outputs = 0, inputs = 0, weights = 0;

  Extent(std::span<const LayerShape> shapes, std::span<const int64_t> counts) {
    for (int64_t m : counts) tokens = std::max(tokens, m);
    for (const LayerShape& shape : shapes) {
      outputs = std::max(outputs, shape.n);
      inputs = std::max(inputs, shape.k);
      weights = std::max(weights, shape.n * shape.k);
    }
  }
  /// A pool holds a matrix of 16-bit weights, and tokens of 8 bits.
  int64_t pool() const { return std::max({kPoolBytes, 2 * weights + 256, tokens * inputs}); }
};

void check_blas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error("cuBLAS: {} failed with code {}", what, static_cast<int>(status));
}

/// Random numbers: any bytes, halves of magnitudes 1/8 .. 2, or 8-bit floats (e4m3) up to 2.
enum class Numbers { kBytes, kHalves, kFloat8 };

DeviceArray<uint8_t> random_pool(int64_t bytes, Numbers numbers) {
  constexpr int64_t kPiece = 64 << 20;
  std::vector<uint32_t> piece(kPiece / 4);
  std::mt19937 rng(1);
  for (uint32_t& word : piece) {
    const auto bits = static_cast<uint32_t>(rng());
    word = numbers == Numbers::kHalves   ? (bits & 0x8FFF8FFFu) | 0x30003000u
           : numbers == Numbers::kFloat8 ? bits & 0xBFBFBFBFu
                                         : bits;
  }
  DeviceArray<uint8_t> pool(static_cast<size_t>(bytes));
  for (int64_t at = 0; at < bytes; at += kPiece) {
    cuda::check(cudaMemcpy(pool.data() + at, piece.data(), static_cast<size_t>(std::min(kPiece, bytes - at)),
                           cudaMemcpyHostToDevice),
                "upload of random data");
  }
  return pool;
}

/// Buffers that all timings share.
struct Arena {
  DeviceArray<uint8_t> bytes, halves, float8, input;
  DeviceArray<int8_t> codes;
  DeviceArray<uint8_t> out;
  DeviceArray<float> scales;      ///< of outputs or tokens
  DeviceArray<int32_t> integers;  ///< the same
  DeviceArray<uint8_t> workspace{32 << 20};
  cublasHandle_t blas = nullptr;
  cublasLtHandle_t blas_lt = nullptr;

  explicit Arena(const Extent& most)
      : bytes(random_pool(most.pool(), Numbers::kBytes)),
        halves(random_pool(most.pool(), Numbers::kHalves)),
        float8(random_pool(most.pool(), Numbers::kFloat8)),
        input(random_pool(most.tokens * most.inputs * 2, Numbers::kHalves)),
        codes(static_cast<size_t>(most.tokens * most.inputs)),
        out(static_cast<size_t>(most.tokens * most.outputs * 4)),
        scales(std::vector<float>(static_cast<size_t>(std::max(most.outputs, most.tokens)), 1e-4f)),
        integers(std::vector<int32_t>(static_cast<size_t>(std::max(most.outputs, most.tokens)), 7)) {
    cuda::check(cudaMemcpy(codes.data(), bytes.data(), codes.size(), cudaMemcpyDeviceToDevice), "codes");
    check_blas(cublasCreate(&blas), "cublasCreate");
    check_blas(cublasLtCreate(&blas_lt), "cublasLtCreate");
    check_blas(cublasSetWorkspace(blas, workspace.data(), workspace.size()), "cublasSetWorkspace");
  }
};

/// Where copy `i` of a weight matrix lies in a pool.
const uint8_t* rotated(const DeviceArray<uint8_t>& pool, int64_t bytes, int i) {
  const int64_t stride = cuda::ceil_div(bytes, 256) * 256;
  return pool.data() + i % (static_cast<int64_t>(pool.size()) / stride) * stride;
}

/// Calls in a graph: enough to rotate and to last about 200 us, with a short cap on long kernels.
int calls_for(int64_t weight_bytes) {
  return static_cast<int>(std::clamp<int64_t>(cuda::ceil_div(kRotatingBytes, weight_bytes), 2, 48));
}
int replays_for(int64_t m) {
  return m >= 1024 ? 5 : 9;
}

struct Point {
  LayerShape shape;
  int64_t m;
};

/// Lets the power limit forget the kernel timed before.
void rest(const Point& at) {
  if (at.m >= 512) std::this_thread::sleep_for(std::chrono::milliseconds(30));
}

/// Our product of a shape; weights rotate.
GemmProblem problem_of(const Arena& arena, const Point& at, WeightLayout layout) {
  GemmProblem p;
  p.weights = {layout, at.shape.n, at.shape.k, nullptr, arena.scales.data()};
  p.m = at.m;
  p.codes = arena.codes.data();
  p.codes_stride = at.shape.k;
  p.token_scale = arena.scales.data();
  p.out = arena.out.data();
  p.out_stride = at.shape.n;
  return p;
}

double time_ours(const Arena& arena, const Point& at, GemmProblem p, const std::optional<GemmConfig>& config,
                 bool overlap) {
  const int64_t bytes = cuda::packed_bytes(p.weights.layout, p.weights.n, p.weights.k);
  const int64_t outlier_bytes = cuda::ceil_div(p.weights.n, 64) * 64 * p.outliers.count * 2;
  rest(at);
  return graph_microseconds(calls_for(bytes), replays_for(at.m), [&](int i, cudaStream_t stream) {
    p.weights.blocks = rotated(arena.bytes, bytes, i);
    if (p.outliers.count > 0) p.outliers.weights = rotated(arena.halves, outlier_bytes, i);
    cuda::gemm(p, stream, {config, overlap});
  });
}

/// As PyTorch calls it: fp16 in and out, fp32 accumulation, cuBLAS's own choice of kernel.
double time_fp16(Arena& arena, const Point& at) {
  const int n = static_cast<int>(at.shape.n), k = static_cast<int>(at.shape.k), m = static_cast<int>(at.m);
  const int64_t bytes = at.shape.n * at.shape.k * 2;
  const float one = 1, zero = 0;
  rest(at);
  return graph_microseconds(calls_for(bytes), replays_for(at.m), [&](int i, cudaStream_t stream) {
    check_blas(cublasSetStream(arena.blas, stream), "cublasSetStream");
    check_blas(cublasSetWorkspace(arena.blas, arena.workspace.data(), arena.workspace.size()),
               "cublasSetWorkspace");
    check_blas(cublasGemmEx(arena.blas, CUBLAS_OP_T, CUBLAS_OP_N, n, m, k, &one,
                            rotated(arena.halves, bytes, i), CUDA_R_16F, k, arena.input.data(), CUDA_R_16F, k,
                            &zero, arena.out.data(), CUDA_R_16F, n, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
               "cublasGemmEx");
  });
}

/// What cublasLt multiplies: int8 to int32, or e4m3 to halves.
struct LtKind {
  cublasComputeType_t compute;
  cudaDataType_t input, scale, output;
};
constexpr LtKind kLtInt8{CUBLAS_COMPUTE_32I, CUDA_R_8I, CUDA_R_32I, CUDA_R_32I};
constexpr LtKind kLtFloat8{CUBLAS_COMPUTE_32F, CUDA_R_8F_E4M3, CUDA_R_32F, CUDA_R_16F};

/// The fastest of the first eight heuristics of cublasLt; 0 when there is none.
double time_lt(Arena& arena, const Point& at, const LtKind& kind) {
  const auto n = static_cast<uint64_t>(at.shape.n), k = static_cast<uint64_t>(at.shape.k),
             m = static_cast<uint64_t>(at.m);
  cublasLtMatmulDesc_t product;
  cublasLtMatrixLayout_t weights, codes, out;
  cublasLtMatmulPreference_t preference;
  const cublasOperation_t transpose = CUBLAS_OP_T;
  const size_t workspace = arena.workspace.size();
  check_blas(cublasLtMatmulDescCreate(&product, kind.compute, kind.scale), "cublasLtMatmulDescCreate");
  check_blas(
      cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof(transpose)),
      "TRANSA");
  check_blas(cublasLtMatrixLayoutCreate(&weights, kind.input, k, n, at.shape.k), "layout");
  check_blas(cublasLtMatrixLayoutCreate(&codes, kind.input, k, m, at.shape.k), "layout");
  check_blas(cublasLtMatrixLayoutCreate(&out, kind.output, n, m, at.shape.n), "layout");
  check_blas(cublasLtMatmulPreferenceCreate(&preference), "preference");
  check_blas(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                  &workspace, sizeof(workspace)),
             "preference");
  cublasLtMatmulHeuristicResult_t found[8];
  int count = 0;
  cublasLtMatmulAlgoGetHeuristic(arena.blas_lt, product, weights, codes, out, out, preference, 8, found,
                                 &count);
  const int64_t bytes = at.shape.n * at.shape.k;
  const bool integer = kind.input == CUDA_R_8I;
  const DeviceArray<uint8_t>& pool = integer ? arena.bytes : arena.float8;
  const void* input = integer ? static_cast<const void*>(arena.codes.data()) : arena.float8.data();
  const int32_t integers[2] = {1, 0};
  const float floats[2] = {1, 0};
  const void* one = integer ? static_cast<const void*>(&integers[0]) : &floats[0];
  const void* zero = integer ? static_cast<const void*>(&integers[1]) : &floats[1];
  double best = 0;
  for (int algorithm = 0; algorithm < count; ++algorithm) {
    rest(at);
    const double us =
        graph_microseconds(calls_for(bytes), replays_for(at.m), [&](int i, cudaStream_t stream) {
          check_blas(cublasLtMatmul(arena.blas_lt, product, one, rotated(pool, bytes, i), weights, input,
                                    codes, zero, arena.out.data(), out, arena.out.data(), out,
                                    &found[algorithm].algo, arena.workspace.data(), workspace, stream),
                     "cublasLtMatmul");
        });
    best = best == 0 ? us : std::min(best, us);
  }
  cublasLtMatmulPreferenceDestroy(preference);
  cublasLtMatrixLayoutDestroy(weights);
  cublasLtMatrixLayoutDestroy(codes);
  cublasLtMatrixLayoutDestroy(out);
  cublasLtMatmulDescDestroy(product);
  return best;
}

std::string name_of(WeightLayout layout) {
  return layout.group_size > 0 ? fmt::format("g{}", layout.group_size) : fmt::format("int{}", layout.bits);
}

void print(const Point& at, const std::string& kernel, double us, const GemmConfig& config = {}) {
  fmt::print(
      R"({{"model": "{}", "k": {}, "n": {}, "m": {}, "kernel": "{}", "us": {:.3f}, "outputs": {}, "tokens": {}, "split": {}, "warps": {}}})"
      "\n",
      at.shape.model, at.shape.k, at.shape.n, at.m, kernel, us, config.outputs, config.tokens, config.split,
      config.warps);
  std::fflush(stdout);
}

constexpr WeightLayout kLayouts[] = {{4, 0}, {4, 128}, {8, 0}, {4, 64}, {4, 32}};

WeightLayout layout_named(const std::string& name) {
  for (WeightLayout layout : kLayouts) {
    if (name_of(layout) == name) return layout;
  }
  throw Error("no layout is called {}: int4, int8, g128, g64 or g32", name);
}

void compare_sm80(Arena& arena, const Point& at) {
  print(at, "fp16", time_fp16(arena, at));
  for (WeightLayout layout : {kLayouts[0], kLayouts[1], kLayouts[2]}) {
    const GemmProblem problem = problem_of(arena, at, layout);
    const GemmConfig config = cuda::sm80::choose_config(problem, cuda::kSms);
    print(at, name_of(layout) + " sm80", time_ours(arena, at, problem, config, false), config);
  }
}

/// QUIK: 256 of the inputs are outliers, the activations have zero points.
GemmProblem outlier_problem_of(const Arena& arena, const Point& at) {
  constexpr int64_t kOutliers = 256;
  GemmProblem p = problem_of(arena, at, {4, 0});
  p.weights.k -= kOutliers;
  p.weights.row_sum = arena.integers.data();
  p.token_zero = arena.integers.data();
  p.outliers = {kOutliers, nullptr, arena.input.data(), kOutliers};
  return p;
}

void time_outliers(Arena& arena, const Point& at) {
  const GemmProblem p = outlier_problem_of(arena, at);
  for (bool overlap : {false, true}) {
    print(at, overlap ? "int4 outliers overlapped" : "int4 outliers", time_ours(arena, at, p, {}, overlap));
  }
}

void compare_outliers(Arena& arena, const Point& at) {
  print(at, "fp16", time_fp16(arena, at));
  time_outliers(arena, at);
}

void compare(Arena& arena, const Point& at) {
  print(at, "fp16", time_fp16(arena, at));
  for (WeightLayout layout : kLayouts) {
    if (layout.group_size == 64 && at.m % 64 != 0) continue;
    const GemmConfig config = cuda::choose_config(layout, at.m, at.shape.n, at.shape.k);
    print(at, name_of(layout), time_ours(arena, at, problem_of(arena, at, layout), config, false), config);
    print(at, name_of(layout) + " overlapped",
          time_ours(arena, at, problem_of(arena, at, layout), config, true), config);
  }
  time_outliers(arena, at);
  if (const double us = time_lt(arena, at, kLtInt8); us > 0) print(at, "cublaslt int8", us);
  if (const double us = time_lt(arena, at, kLtFloat8); us > 0) print(at, "cublaslt fp8", us);
}

GemmProblem problem_of(const Arena& arena, const Point& at, const std::string& kind) {
  return kind == "outliers" ? outlier_problem_of(arena, at) : problem_of(arena, at, layout_named(kind));
}

/// Configurations that may be the best.
std::vector<GemmConfig> candidates(const Point& at, const GemmProblem& problem) {
  constexpr int64_t kFewBlocks = 48;  // leave most of the device idle
  std::vector<GemmConfig> found;
  for (const GemmConfig& config : cuda::configs_for(problem, 0)) {
    if (config.family != cuda::KernelFamily::kSm90a) continue;
    const int64_t blocks =
        cuda::ceil_div(at.m, config.tokens) * cuda::ceil_div(at.shape.n, config.outputs) * config.split;
    if (blocks >= kFewBlocks && cuda::is_plausible(config, at.m, at.shape.n)) found.push_back(config);
  }
  return found;
}

void tune(Arena& arena, const Point& at, const std::string& kind) {
  const GemmProblem problem = problem_of(arena, at, kind);
  for (const GemmConfig& config : candidates(at, problem)) {
    print(at, kind, time_ours(arena, at, problem, config, false), config);
  }
}

void time_border(Arena& arena, const Point& full, const std::string& kind) {
  constexpr double kCliff = 1.1;
  const Point next{full.shape, full.m + 1};
  double us[2];
  for (const Point& at : {full, next}) {
    const GemmProblem problem = problem_of(arena, at, kind);
    const GemmConfig config = cuda::choose_config(problem, 0);
    us[at.m - full.m] = time_ours(arena, at, problem, config, false);
    print(at, kind, us[at.m - full.m], config);
  }
  if (us[1] <= kCliff * us[0]) return;
  const GemmProblem problem = problem_of(arena, next, kind);
  std::pair<double, GemmConfig> best{us[1], cuda::choose_config(problem, 0)};
  for (const GemmConfig& config : candidates(next, problem)) {
    const double time = time_ours(arena, next, problem, config, false);
    if (time < best.first) best = {time, config};
  }
  print(next, kind + " best", best.first, best.second);
}

void time_borders(Arena& arena, const Point& full) {
  for (const char* kind : {"int4", "g128", "int8", "outliers"}) time_border(arena, full, kind);
}

int64_t positive(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1)
    throw Error("'{}' is no number of tokens, nor KxN", text);
  return value;
}

int run(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  const bool tuning = mode == "tune" && argc > 2;
  if (mode != "compare" && mode != "outliers" && mode != "sm80" && mode != "borders" && !tuning) {
    throw Error("usage: gemm_bench compare | outliers | sm80 | borders | tune KIND [KxN ...] [M ...]");
  }
  std::vector<int64_t> tokens;
  std::vector<LayerShape> shapes;
  for (int i = tuning ? 3 : 2; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const size_t x = argument.find('x');
    if (x == std::string_view::npos) {
      tokens.push_back(positive(argument));
    } else {
      shapes.push_back({"other", positive(argument.substr(0, x)), positive(argument.substr(x + 1))});
    }
  }
  if (shapes.empty()) shapes.assign(std::begin(kShapes), std::end(kShapes));
  if (tokens.empty() && mode == "borders") {
    tokens = {8, 24};  // tiles have 8, 24 or a multiple of 16 tokens
    for (int64_t m = 16; m <= 640; m += 16) tokens.push_back(m);
  }
  if (tokens.empty()) tokens = {1, 4, 8, 16, 17, 32, 33, 64, 65, 128, 129, 256, 512, 1024, 2048, 4096};
  Extent most(shapes, tokens);
  ++most.tokens;  // of "borders"
  Arena arena(most);
  for (const LayerShape& shape : shapes) {
    for (int64_t m : tokens) {
      const Point at{shape, m};
      if (tuning) tune(arena, at, argv[2]);
      if (mode == "compare") compare(arena, at);
      if (mode == "outliers") compare_outliers(arena, at);
      if (mode == "sm80") compare_sm80(arena, at);
      if (mode == "borders") time_borders(arena, at);
    }
  }
  return 0;
}

}  // namespace
}  // namespace tessera::bench

int main(int argc, char** argv) {
  try {
    return tessera::bench::run(argc, argv);
  } catch (const tessera::Error& error) {
    std::fprintf(stderr, "gemm_bench: %s\n", error.what());
    return 2;
  }
}
