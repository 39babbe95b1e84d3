// Times attention of one layer on the GPU by itself: sequences that decode, and one prompt, from caches in
// 16, 8 and 4 bits, beside the time that reading keys and values takes. CUDA graphs over layers that together
// exceed L2, medians of replays, each launch as in the engine: it may start before the one before it ends.
// The sum of the bits of the results tells builds apart that differ. Usage:
//   cuda_attention_bench [HEADSxKEY_HEADSxDIMENSIONS ...]     without any: 32x32x128 40x40x128 32x8x128
#include <cuda_fp16.h>

#include <cstdio>
#include <cstring>
#include <numeric>
#include <random>
#include <string>

#include "bench/gpu/device.h"
#include "bench/heads.h"
#include "tessera/base/error.h"
#include "tessera/kernels/cuda/attention/attention.h"
#include "tessera/kernels/cuda/attention/page_layout.h"

namespace tessera::bench {
namespace {

using namespace cuda;

constexpr double kBytesPerSecond = 4.65e12;  ///< an H200 reads
constexpr size_t kCacheBytes = size_t{256} << 20;

std::vector<__half> random_halves(size_t count, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<__half> values(count);
  for (__half& v : values) v = __float2half(normal(random));
  return values;
}

/// The block of one head of one page with random keys and values.
std::vector<uint8_t> random_block(const PageLayout& layout, std::mt19937& random) {
  std::vector<uint8_t> block(static_cast<size_t>(layout.bytes()));
  if (layout.format == KvFormat::kF16) {
    const auto values = random_halves(block.size() / 2, random);
    std::memcpy(block.data(), values.data(), block.size());
    return block;
  }
  for (uint8_t& byte : block) byte = static_cast<uint8_t>(random());
  const float levels = static_cast<float>(1 << kv_bits(layout.format));
  std::uniform_real_distribution<float> scale(4 / levels, 8 / levels), zero(0.4f * levels, 0.6f * levels);
  for (const int begin : {layout.key_scales(), layout.value_scales()}) {
    float scales[2 * kPageTokens];
    for (int i = 0; i < 2 * kPageTokens; ++i) scales[i] = i < kPageTokens ? scale(random) : zero(random);
    std::memcpy(block.data() + begin, scales, sizeof scales);
  }
  return block;
}

/// Blocks of pages, one behind the other; they repeat after 61.
DeviceArray<uint8_t> random_pages(const PageLayout& layout, size_t blocks) {
  std::mt19937 random(1);
  std::vector<uint8_t> some;
  for (int i = 0; i < 61; ++i) {
    const auto block = random_block(layout, random);
    some.insert(some.end(), block.begin(), block.end());
  }
  std::vector<uint8_t> all(blocks * static_cast<size_t>(layout.bytes()));
  for (size_t at = 0; at < all.size(); at += some.size())
    std::memcpy(all.data() + at, some.data(), std::min(some.size(), all.size() - at));
  return DeviceArray<uint8_t>(all);
}

template <class T>
uint64_t sum_of_bits(const DeviceArray<T>& array) {
  std::vector<uint32_t> words(array.size() * sizeof(T) / 4);
  check(cudaMemcpy(words.data(), array.data(), words.size() * 4, cudaMemcpyDeviceToHost), "download");
  return std::accumulate(words.begin(), words.end(), uint64_t{});
}

/// One layer of `sequences` sequences whose last token is at `context`, and `tokens` of each to attend with.
struct Setting {
  Heads heads;
  KvFormat format;
  int sequences, context, tokens;
};

void time_setting(const Setting& s) {
  const Heads& h = s.heads;
  const PageLayout layout{s.format, h.dimensions};
  const int pages = s.context / static_cast<int>(kPageTokens) + 1;
  const int64_t page_bytes = int64_t{h.key_heads} * layout.bytes(),
                layer_bytes = page_bytes * pages * s.sequences;
  const int layers = static_cast<int>(kCacheBytes / static_cast<size_t>(layer_bytes)) + 2;
  const auto memory = random_pages(
      layout, static_cast<size_t>(layers) * static_cast<size_t>(pages * s.sequences * h.key_heads));
  const int rows = s.sequences * s.tokens;
  std::mt19937 random(2);
  const size_t width = static_cast<size_t>(h.n * h.dimensions);
  const DeviceArray<__half> q(random_halves(static_cast<size_t>(rows) * width, random));
  DeviceArray<__half> out(static_cast<size_t>(rows) * width);

  std::vector<DecodeSpan> spans;
  std::vector<PrefillRows> prefill;
  std::vector<int32_t> list;
  for (int i = 0; i < s.sequences; ++i) {
    if (s.tokens > 1) {
      prefill.push_back(
          {i * s.tokens, s.tokens, s.context + 1 - s.tokens, static_cast<int32_t>(list.size())});
      for (int page = 0; page < pages; ++page) list.push_back(page * s.sequences + i);
      continue;
    }
    for (int first = 0; first < pages; first += kSpanPages) {
      DecodeSpan& span = spans.emplace_back(DecodeSpan{i, s.context, first / kSpanPages});
      for (int page = 0; page < kSpanPages; ++page)
        span.page[page] = std::min(first + page, pages - 1) * s.sequences + i;
    }
  }
  const DeviceArray<DecodeSpan> device_spans(spans);
  const DeviceArray<PrefillRows> device_prefill(prefill);
  const DeviceArray<int32_t> device_list(list);
  const DeviceArray<AttentionCounts> counts(std::vector<AttentionCounts>{
      {static_cast<int32_t>(spans.size()), static_cast<int32_t>(prefill.size())}});
  DeviceArray<float> span_out(spans.size() * width);
  DeviceArray<float2> ends(spans.size() * static_cast<size_t>(h.n));
  span_out.fill(0), ends.fill(0), out.fill(0);
  AttentionProblem p{.q = {q.data(), static_cast<int64_t>(width)},
                     .out = {out.data(), static_cast<int64_t>(width)},
                     .spans = {span_out.data(), ends.data(), h.n, h.dimensions},
                     .heads = h.n,
                     .pages = {s.format, h.dimensions, h.key_heads, nullptr, page_bytes},
                     .counts = counts.data(),
                     .decode = device_spans.data(),
                     .prefill = device_prefill.data(),
                     .page_list = device_list.data()};
  const double us = graph_microseconds(2 * layers, 15, [&](int i, cudaStream_t stream) {
    p.pages.memory = memory.data() + i % layers * layer_bytes;
    if (s.tokens == 1) return attend_decode(p, static_cast<int64_t>(spans.size()), stream, true);
    attend_prefill(p, s.sequences * prefill_tasks(s.tokens, h.n, h.key_heads, h.dimensions), stream);
  });
  std::printf("%dx%dx%d KV%d %2d x %4d behind %4d: %7.2f us", h.n, h.key_heads, h.dimensions,
              kv_bits(s.format), s.sequences, s.tokens, s.context + 1 - s.tokens, us);
  if (s.tokens == 1) {
    std::printf(" %5.0f GB/s %3.0f %% of reading", static_cast<double>(layer_bytes) / us * 1e-3,
                100 * static_cast<double>(layer_bytes) / kBytesPerSecond / us * 1e6);
  } else {
    const double seen = s.tokens * (s.context + 1 - s.tokens + (s.tokens + 1) / 2.0);
    std::printf(" %5.0f TFLOP/s", 4 * seen * static_cast<double>(width) * s.sequences / us * 1e-6);
  }
  std::printf("  bits %016llx\n", static_cast<unsigned long long>(sum_of_bits(span_out) * 3 +
                                                                  sum_of_bits(ends) * 5 + sum_of_bits(out)));
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  std::vector<Heads> heads;
  for (int i = 1; i < argc; ++i) heads.push_back(heads_from_text(argv[i]));
  if (heads.empty()) heads = {{32, 32, 128}, {40, 40, 128}, {32, 8, 128}};
  for (const Heads& h : heads) {
    for (const KvFormat format : {KvFormat::kF16, KvFormat::kInt8, KvFormat::kInt4}) {
      const std::string obstacle = attention_obstacle(format, h.dimensions, h.n, h.key_heads);
      if (!obstacle.empty()) throw Error("attention does not run {}", obstacle);
      for (const auto& [sequences, context] :
           {std::pair{1, 520}, {16, 520}, {64, 520}, {1, 8200}, {16, 4100}})
        time_setting({h, format, sequences, context, 1});
      time_setting({h, format, 1, 2047, 2048});
    }
  }
  return 0;
}

}  // namespace
}  // namespace tessera::bench

int main(int argc, char** argv) {
  return tessera::bench::status_of([&] { return tessera::bench::run(argc, argv); });
}
