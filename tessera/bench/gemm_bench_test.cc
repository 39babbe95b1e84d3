// The benchmark measures what it says.
#include "tessera/bench/gemm_bench.h"

#include <gtest/gtest.h>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/kernels/cpu/isa.h"

namespace tessera {
namespace {

TEST(GemmBench, MeasuresEveryFormatAtEveryShape) {
  set_thread_count(1);
  GemmBenchOptions options;
  options.isa = detect_cpu_isa();
  options.shapes = {{1, 256, 256}, {20, 256, 256}};
  options.formats = all_gemm_formats();
  options.seconds = 0.001;
  options.rotation_bytes = 100'000;
  const MachineLimits limits{.threads = 1, .integer_ops = 1e12, .float_ops = 1e11, .read_bandwidth = 1e10};
  size_t seen = 0;
  const auto results = bench_gemm(options, limits, [&](const GemmResult&) { ++seen; });
  ASSERT_EQ(results.size(), 2 * options.formats.size());
  EXPECT_EQ(seen, results.size());
  for (const GemmResult& r : results) {
    SCOPED_TRACE(name_of(r.format));
    EXPECT_GE(r.runs, 5);
    EXPECT_GT(r.minimum, 0);
    EXPECT_LE(r.minimum, r.median);
    EXPECT_NEAR(r.ops * r.minimum, 2.0 * static_cast<double>(r.shape.m) * 256 * 256, 1);
    EXPECT_GT(r.speedup, 0);
    EXPECT_EQ(r.speedup == 1, r.format == GemmFormat::kF32);
    EXPECT_EQ(r.kernel.isa, name_of(options.isa));
  }
  EXPECT_EQ(results[3].kernel.kernel, "w4a8 per-channel");
  EXPECT_EQ(results[3].weight_bytes, 256 * 256 / 2 + 256 * 4);
}

TEST(GemmBench, FormatsGoByTheirNames) {
  for (GemmFormat format : all_gemm_formats()) EXPECT_EQ(gemm_format_from_name(name_of(format)), format);
  EXPECT_THROW(gemm_format_from_name("w3a3"), Error);
}

TEST(GemmBench, ShapesAreMxNxK) {
  const GemmShape shape = gemm_shape_from_text("128x4096x11008");
  EXPECT_EQ(shape.m, 128);
  EXPECT_EQ(shape.n, 4096);
  EXPECT_EQ(shape.k, 11008);
  for (const char* text : {"", "128x4096", "1x2x3x", "0x2x3", "1x-2x3"}) {
    EXPECT_THROW(gemm_shape_from_text(text), Error) << text;
  }
}

TEST(GemmBench, RefusesAShapeThatGroupsDoNotDivide) {
  GemmBenchOptions options;
  options.shapes = {{1, 64, 100}};
  options.formats = {GemmFormat::kW4A8Group128};
  EXPECT_THROW(bench_gemm(options, {}), Error);
}

TEST(MachineLimits, ArePositiveAndOrdered) {
  set_thread_count(1);
  const MachineLimits limits = measure_machine_limits(detect_cpu_isa());
  EXPECT_EQ(limits.threads, 1);
  EXPECT_GT(limits.float_ops, 1e8);
  EXPECT_GT(limits.read_bandwidth, 1e8);
  EXPECT_EQ(limits.integer_ops > limits.float_ops, detect_cpu_isa() != CpuIsa::kGeneric);
}

}  // namespace
}  // namespace tessera
