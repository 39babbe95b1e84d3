// Attention of one layer by itself, beside the limits of this machine: a prompt behind others, and a token
// that decodes, from caches in 16, 8 and 4 bits, with every instruction set that the processor has. Usage:
// attention_bench [HEADSxKEY_HEADSxDIMENSIONS ...]     without any: 32x32x64 32x4x64
#include <fmt/format.h>

#include <algorithm>

#include "bench/heads.h"
#include "tessera/base/cpu_info.h"
#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/base/stopwatch.h"
#include "tessera/bench/machine_limits.h"
#include "tessera/format/random_layer.h"
#include "tessera/kernels/cpu/attention.h"
#include "tessera/kernels/single_linear.h"
#include "tessera/program/terminal.h"

namespace tessera {
namespace {

Batch tokens_behind(int64_t past, int64_t m) {
  std::vector<int32_t> pages(static_cast<size_t>(pages_for(past + m)));
  for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>(i);
  Batch batch;
  batch.add(std::vector<int32_t>(static_cast<size_t>(m)), past, pages, WantedLogits::none(m));
  return batch;
}

/// Median seconds of attention of m tokens behind `past` others.
double seconds_of(const CpuKernels& kernels, const Heads& heads, KvFormat format, int64_t past, int64_t m) {
  const int64_t tokens = past + m, q_width = heads.n * heads.dimensions,
                kv_width = heads.key_heads * heads.dimensions;
  HostKvPool pool({1, heads.key_heads, heads.dimensions, format}, pages_for(tokens));
  auto q = random_floats(tokens * q_width, 1), k = random_floats(tokens * kv_width, 2),
       v = random_floats(tokens * kv_width, 3);
  append_heads(kernels, host_rows(q.data(), tokens, q_width), host_rows(k.data(), tokens, kv_width),
               host_rows(v.data(), tokens, kv_width), {}, tokens_behind(0, tokens), 0, pool);
  const Batch batch = tokens_behind(past, m);
  std::vector<float> out(static_cast<size_t>(m * q_width));
  std::vector<double> samples;
  const Stopwatch all;
  while (samples.size() < 5 || all.seconds() < 0.5) {
    const Stopwatch one;
    attend_batch(kernels, host_rows(q.data(), m, q_width), batch, 0, pool, {},
                 host_rows(out.data(), m, q_width));
    samples.push_back(one.seconds());
  }
  std::ranges::nth_element(samples, samples.begin() + std::ssize(samples) / 2);
  return samples[samples.size() / 2];
}

void run(const std::vector<std::string>& arguments) {
  std::vector<Heads> shapes;
  shapes.reserve(arguments.size());
  for (const std::string& text : arguments) shapes.push_back(heads_from_text(text));
  if (shapes.empty()) shapes = {{32, 32, 64}, {32, 4, 64}};
  struct Case {
    int64_t past, m;
  };
  for (CpuIsa isa : available_cpu_isas()) {
    if (isa == CpuIsa::kGeneric) continue;
    const MachineLimits limits = measure_machine_limits(isa);
    Table table(
        {"heads", "tokens", "behind", "kv bits", "ms", "GFLOP/s", "of FMA", "cache GB/s", "of reading"});
    for (const Heads& heads : shapes) {
      for (const auto& [past, m] : {Case{1536, 512}, Case{2047, 1}}) {
        for (KvFormat format : {KvFormat::kF16, KvFormat::kInt8, KvFormat::kInt4}) {
          const double seconds = seconds_of(kernels_for(isa), heads, format, past, m);
          const double seen = static_cast<double>(m) *
                              (static_cast<double>(past) + static_cast<double>(m + 1) / 2),
                       ops = 4 * seen * static_cast<double>(heads.n * heads.dimensions) / seconds,
                       bytes = static_cast<double>(
                                   KvShape{1, heads.key_heads, heads.dimensions, format}.page_bytes() *
                                   pages_for(past + m)) /
                               seconds;
          table.add({fmt::format("{}x{}x{}", heads.n, heads.key_heads, heads.dimensions), std::to_string(m),
                     std::to_string(past), std::to_string(kv_bits(format)),
                     fmt::format("{:.2f}", 1e3 * seconds), fmt::format("{:.0f}", ops / 1e9),
                     fmt::format("{:.0f} %", 100 * ops / limits.float_ops),
                     fmt::format("{:.1f}", bytes / 1e9),
                     fmt::format("{:.0f} %", 100 * bytes / limits.read_bandwidth)});
        }
      }
    }
    fmt::print("{}, {}, {} threads: float {:.0f} GFLOP/s, memory {:.1f} GB/s\n{}\n", cpu_info().model,
               name_of(isa), limits.threads, limits.float_ops / 1e9, limits.read_bandwidth / 1e9,
               table.text());
  }
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  try {
    tessera::run({argv + 1, argv + argc});
  } catch (const tessera::Error& error) {
    fmt::print(stderr, "attention_bench: {}\n", error.what());
    return 2;
  }
}
