// Checks the fused activation kernels against double precision (plain quantization: bit for bit against
// format/reference.h) and times them.
//   activation_check [time]       time: no checks
#include <algorithm>
#include <functional>

#include "bench/gpu/activation_fixture.h"
#include "tessera/base/error.h"
#include "tessera/format/reference.h"

namespace tessera::bench {
namespace {

constexpr const char* kNames[] = {"plain", "rms norm", "layer norm", "silu product"};

/// What a kernel gave for one row.
struct Result {
  std::span<const int8_t> codes;
  TokenScale token;
};

/// Plain rows must be equal, others may differ by the rounding of one code.
bool row_agrees(const Rows& rows, const ActivationProblem& p, int64_t token, const Result& got) {
  const std::vector<double> y = rows.expected(p.source, token, p.epsilon);
  const std::vector<float> narrow(y.begin(), y.end());
  std::vector<float> columns(static_cast<size_t>(rows.linear.k));
  map_input(InputMap(rows.linear), narrow, columns);
  std::vector<int8_t> want(columns.size());
  const TokenScale reference = quantize_token(rows.linear, columns, want);
  const bool plain = p.source == ActivationSource::kPlain;
  if (std::isnan(reference.scale) != std::isnan(got.token.scale)) return false;
  const float error = std::isnan(got.token.scale) ? 0 : std::fabs(got.token.scale - reference.scale);
  if (plain ? error != 0 : error > 1e-5f * reference.scale) return false;
  if (std::abs(got.token.zero_point - reference.zero_point) > (plain ? 0 : 1)) return false;
  const int repeat = rows.linear.input_repeat.empty() ? 1 : 3;
  const int slack = plain ? 0 : (1 + std::abs(got.token.zero_point - reference.zero_point)) * repeat;
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::abs(got.codes[i] - want[i]) > slack) return false;
  }
  return true;
}

/// Gathered columns, of plain rows bit for bit, and zeros behind them.
bool outliers_agree(const Rows& rows, const Device& device, const ActivationProblem& p) {
  const auto index = rows.linear.outlier_index.as<int32_t>();
  const std::vector<__half> got = device.outliers.download(static_cast<size_t>(rows.m * p.outliers.stride));
  for (int64_t token = 0; token < rows.m; ++token) {
    const std::vector<double> y = rows.expected(p.source, token, p.epsilon);
    for (size_t f = 0; f < static_cast<size_t>(p.outliers.stride); ++f) {
      const double want = f < index.size() ? y[static_cast<size_t>(index[f])] : 0;
      const double value = __half2float(got[static_cast<size_t>(token * p.outliers.stride) + f]);
      if (std::isfinite(want) && std::fabs(value - want) > 1e-3 * (1 + std::fabs(want))) return false;
    }
  }
  return true;
}

int64_t check(int64_t m, const Rows& rows, const std::string& what) {
  const Device device(rows);
  int64_t failures = 0;
  for (int source = 0; source < 4; ++source) {
    const ActivationProblem p = device.problem(static_cast<ActivationSource>(source), rows,
                                               m % 2 == 0 ? rows.type : OutputType::kFloat);
    const auto k = static_cast<size_t>(rows.linear.k);
    cuda::check(cudaMemset(p.codes, 0x55, device.codes.size()), "cudaMemset");
    cuda::check(cudaMemset(device.outliers.data(), 0x55, device.outliers.size() * 2), "cudaMemset");
    cuda::quantize_activations(p, nullptr, source % 2 == 1);
    cuda::check(cudaDeviceSynchronize(), kNames[source]);
    const std::vector<int8_t> codes = device.codes.download(device.codes.size());
    const std::vector<float> scale = device.scale.download(static_cast<size_t>(m));
    const std::vector<int32_t> zero = device.zero.download(static_cast<size_t>(m));
    bool good = p.outliers.count == 0 || outliers_agree(rows, device, p);
    for (size_t token = 0; token < static_cast<size_t>(m); ++token) {
      const Result got{{codes.data() + token * k, k}, {scale[token], zero[token]}};
      good = row_agrees(rows, p, static_cast<int64_t>(token), got) && good;
    }
    if (good) continue;
    ++failures;
    fmt::print("FAIL {} M={} inputs={} type {} {}\n", kNames[source], m, rows.width,
               static_cast<int>(rows.type), what);
  }
  return failures;
}

/// Rows on the device, in as many copies as exceed L2.
struct Timing {
  Rows rows;
  std::vector<Device> devices;
  std::string shape;

  Timing(int64_t m, int64_t width, bool quik, std::mt19937 rng)
      : rows(m, width, quik ? make_quik_input(width) : make_input(width, {}, rng), rng),
        shape(fmt::format("{} M={} inputs={}", quik ? ", QUIK" : "", m, width)) {
    const auto copies = std::max<int64_t>((int64_t{256} << 20) / (m * width * 2), 2);
    for (int64_t i = 0; i < copies; ++i) devices.emplace_back(rows);
  }
  double microseconds(const std::function<void(const Device&, cudaStream_t)>& enqueue) const {
    return graph_microseconds(static_cast<int>(devices.size()), 9, [&](int i, cudaStream_t stream) {
      enqueue(devices[static_cast<size_t>(i)], stream);
    });
  }
  /// One launch after the other, and each let in while the one before it ends; bytes are those of x, up and
  /// codes.
  void report(ActivationSource source, OutputType norm_type) const {
    double us[2];
    for (bool overlap : {false, true}) {
      us[overlap] = microseconds([&](const Device& device, cudaStream_t stream) {
        cuda::quantize_activations(device.problem(source, rows, norm_type), stream, overlap);
      });
    }
    const double bytes =
        static_cast<double>(rows.x.size()) * (source == ActivationSource::kSiluProduct ? 5 : 3);
    fmt::print("{}{}{}: {:.2f} us, {:.0f} GB/s; overlapped {:.2f} us, {:.0f} GB/s\n",
               kNames[static_cast<int>(source)], norm_type == OutputType::kHalf ? " of halves" : "", shape,
               us[0], bytes / us[0] / 1e3, us[1], bytes / us[1] / 1e3);
  }
  void report_copy() const {
    const size_t bytes = rows.x.size() * 3 / 2;
    const double us = microseconds([&](const Device& device, cudaStream_t stream) {
      cuda::check(cudaMemcpyAsync(device.up.data(), device.x.data(), bytes, cudaMemcpyDeviceToDevice, stream),
                  "copy");
    });
    fmt::print("copy of as many bytes as plain{}: {:.2f} us, {:.0f} GB/s\n", shape, us,
               2 * static_cast<double>(bytes) / us / 1e3);
  }
};

void time(int64_t m, int64_t width, bool quik) {
  using enum ActivationSource;
  const Timing timing(m, width, quik, std::mt19937(1));
  for (auto source : {kPlain, kRmsNorm, kLayerNorm, kSiluProduct}) timing.report(source, OutputType::kFloat);
  for (auto source : {kRmsNorm, kLayerNorm}) timing.report(source, OutputType::kHalf);
  if (!quik) timing.report_copy();
}

/// All forms of codes and maps of rows of one type.
int64_t check_forms(int64_t m, int64_t width, OutputType type) {
  int64_t failures = 0;
  for (bool symmetric : {true, false}) {
    for (bool mapped : {false, true}) {
      if (mapped && width > 20000) continue;
      for (int bits : {8, 4}) {
        const Form form{bits, symmetric, mapped};
        std::mt19937 rng(static_cast<uint32_t>(m * 131 + width));
        failures += check(m, Rows(m, width, make_input(width, form, rng), rng, type), describe(form));
      }
    }
  }
  std::mt19937 rng(static_cast<uint32_t>(m * 137 + width));
  if (width % 256 == 0) failures += check(m, Rows(m, width, make_quik_input(width), rng, type), "QUIK");
  return failures;
}

int64_t check_all() {
  int64_t failures = 0;
  for (int64_t width : {16, 144, 4096, 5120, 11008, 16400, 28672}) {
    for (int64_t m : {1, 7, width == 4096 ? 1030 : 4}) failures += check_forms(m, width, OutputType::kHalf);
    for (OutputType type : {OutputType::kFloat, OutputType::kBFloat16}) {
      for (int64_t m : {7, 8}) failures += check_forms(m, width, type);
    }
  }
  return failures;
}

int run(bool checks) {
  const int64_t failures = checks ? check_all() : 0;
  if (checks) fmt::print("activations: {} failures\n", failures);
  for (int64_t m : {256, 512, 1024, 4096}) time(m, 4096, false);
  time(1024, 11008, false);
  for (int64_t m : {16, 1024, 4096}) time(m, 4096, true);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tessera::bench

int main(int argc, char** argv) {
  try {
    return tessera::bench::run(argc < 2 || std::string(argv[1]) != "time");
  } catch (const tessera::Error& error) {
    std::fprintf(stderr, "activation_check: %s\n", error.what());
    return 2;
  }
}
