// tessera bench gemm: speed of single layers beside the limits of this machine.
#include <fmt/format.h>

#include "tessera/base/cpu_info.h"
#include "tessera/bench/gemm_bench.h"
#include "tessera/cli/bench_model.h"
#include "tessera/cli/commands.h"
#include "tessera/program/terminal.h"

namespace tessera {
namespace {

using nlohmann::json;

json result_json(const GemmResult& r) {
  return {{"m", r.shape.m},
          {"n", r.shape.n},
          {"k", r.shape.k},
          {"format", name_of(r.format)},
          {"kernel", r.kernel.kernel},
          {"isa", r.kernel.isa},
          {"runs", r.runs},
          {"median_seconds", r.median},
          {"minimum_seconds", r.minimum},
          {"bandwidth", r.bandwidth},
          {"ops", r.ops},
          {"roofline_share", r.roofline_share},
          {"speedup_over_f32", r.speedup}};
}

struct GemmOptions {
  std::vector<std::string> shapes, formats;
  double seconds = 0.3;
};

void run_gemm(const GemmOptions& o, const GlobalOptions& global) {
  GemmBenchOptions options{.isa = detect_cpu_isa(), .shapes = {}, .formats = {}, .seconds = o.seconds};
  for (const std::string& shape : o.shapes) options.shapes.push_back(gemm_shape_from_text(shape));
  for (const std::string& format : o.formats) options.formats.push_back(gemm_format_from_name(format));
  if (o.shapes.empty()) options.shapes = default_gemm_shapes();
  if (o.formats.empty()) options.formats = all_gemm_formats();
  const MachineLimits limits = measure_machine_limits(options.isa);
  const auto total = static_cast<int64_t>(options.shapes.size() * options.formats.size());
  TerminalReporter reporter(global.quiet);
  int64_t done = 0;
  reporter.progress("measuring, products", 0, total);
  const std::vector<GemmResult> results = bench_gemm(
      options, limits, [&](const GemmResult&) { reporter.progress("measuring, products", ++done, total); });

  json out{{"limits", to_json(limits)}, {"results", json::array()}};
  Table table({"format", "M", "N", "K", "best us", "median us", "GB/s", "GOP/s", "of roofline", "vs f32"});
  for (const GemmResult& r : results) {
    out["results"].push_back(result_json(r));
    table.add({std::string(name_of(r.format)), std::to_string(r.shape.m), std::to_string(r.shape.n),
               std::to_string(r.shape.k), fmt::format("{:.0f}", r.minimum * 1e6),
               fmt::format("{:.0f}", r.median * 1e6), fmt::format("{:.1f}", r.bandwidth / 1e9),
               fmt::format("{:.0f}", r.ops / 1e9), fmt::format("{:.0f} %", 100 * r.roofline_share),
               fmt::format("{:.2f}x", r.speedup)});
  }
  if (global.json) {
    fmt::print("{}\n", json_text(out, 2));
    return;
  }
  fmt::print(
      "{}, {}, {} threads. Measured limits: int8 {:.0f} GOP/s, float {:.0f} GFLOP/s, memory {:.1f} "
      "GB/s.\n\n{}\n",
      cpu_info().model, name_of(options.isa), limits.threads, limits.integer_ops / 1e9,
      limits.float_ops / 1e9, limits.read_bandwidth / 1e9, table.text());
  fmt::print(
      "Input quantization included; weights always from memory (copies rotate). Roofline: the longer of "
      "reading the weights and "
      "computing, at the limits above. f32: the project's own float path.\n");
}

}  // namespace

void add_bench(CLI::App& app, const GlobalOptions& global) {
  CLI::App* bench = add_command(app, "bench", "Measure speed: single layers (gemm) or whole models (model)");
  bench->require_subcommand(1);
  bench->footer(
      "Examples:\n  tessera bench gemm --shape 1x4096x4096 --shape 128x4096x4096\n  tessera bench model "
      "llama-qqq");

  CLI::App* gemm =
      add_command(*bench, "gemm", "Integer layers beside the float path and the limits of this machine");
  auto g = std::make_shared<GemmOptions>();
  gemm->footer("Example:\n  tessera bench gemm --shape 128x4096x4096");
  gemm->add_option("--shape", g->shapes,
                   "MxNxK: tokens, outputs, inputs (may be repeated; default: a list of layers)");
  gemm->add_option("--format", g->formats,
                   "One of the formats of the table, such as w4a8 (may be repeated; default: all)");
  gemm->add_option("--seconds", g->seconds, "Time for each measurement")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  gemm->callback([g, &global] { run_gemm(*g, global); });

  add_bench_model(*bench, global);
}

}  // namespace tessera
