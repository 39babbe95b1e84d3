// Checks that weights packed on the device are those of pack_weights() and pack_outliers(), byte for byte,
// and that floats become halves as to_half() rounds.
#include <fmt/format.h>

#include <cmath>

#include "bench/gpu/device.h"
#include "tessera/base/error.h"
#include "tessera/format/joined_linear.h"
#include "tessera/format/random_layer.h"
#include "tessera/kernels/cuda/backend/weight_upload.h"
#include "tessera/kernels/cuda/packed_weights.h"

namespace tessera::bench {
namespace {

int failures = 0, checks = 0;

void expect_equal(const std::string& what, std::span<const uint8_t> want, const cuda::DeviceBuffer& device) {
  std::vector<uint8_t> got(want.size());
  cuda::check(cudaDeviceSynchronize(), "waiting for the device");
  cuda::check(cudaMemcpy(got.data(), device.data(), got.size(), cudaMemcpyDeviceToHost), "download");
  ++checks;
  const auto [a, b] = std::ranges::mismatch(want, got);
  if (device.bytes() == want.size() && a == want.end()) return;
  ++failures;
  fmt::print("{}: {} bytes, expected {}; the first difference is at {}\n", what, device.bytes(), want.size(),
             a - want.begin());
}

void check_layer(const LayerOptions& options, cuda::WeightUpload& upload) {
  LayerOptions second = options;
  second.n = options.n / 2 + 1;
  const QuantizedLinear a = random_layer(options, 1), b = random_layer(second, 2);
  const QuantizedLinear* const both[] = {&a, &b};
  for (const size_t count : {1, 2}) {
    const std::span<const QuantizedLinear* const> parts(both, count);
    const QuantizedLinear joined = join_outputs(parts);
    const std::string what =
        fmt::format("{}, {} x {}, {} parts", describe(a), joined.n, joined.k, parts.size());
    expect_equal(what, cuda::pack_weights(joined), *upload.packed(parts));
    if (options.outliers > 0)
      expect_equal(what + ", outliers", cuda::pack_outliers(joined), *upload.packed_outliers(parts));
  }
}

void check_halves(DType type, cuda::WeightUpload& upload) {
  // All sixteen-bit patterns whose halves are finite, as numbers of `type`.
  std::vector<float> floats;
  for (int bits = 0; bits < 1 << 16; ++bits) {
    const float value = type == DType::kBF16 ? std::bit_cast<float>(bits << 16)
                                             : to_float(Half{static_cast<uint16_t>(bits)}) * 1.0001f;
    floats.push_back(std::abs(value) < 65504 ? value : 1);
  }
  const auto count = static_cast<int64_t>(floats.size());
  std::vector<uint16_t> stored(floats.size());
  std::vector<uint8_t> want;
  for (size_t i = 0; i < floats.size(); ++i) {
    if (type == DType::kBF16) stored[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(floats[i]) >> 16);
    if (type == DType::kF16) stored[i] = to_half(floats[i]).bits;
    const uint16_t half = to_half(floats[i]).bits;
    want.push_back(static_cast<uint8_t>(half & 0xff));
    want.push_back(static_cast<uint8_t>(half >> 8));
  }
  const void* const data = type == DType::kF32 ? static_cast<const void*>(floats.data()) : stored.data();
  const TensorView view{type, {count}, static_cast<const std::byte*>(data)};
  expect_equal(fmt::format("halves of {}", name_of(type)), want, *upload.halves({&view, 1}));
}

int run() {
  cuda::WeightUpload upload(nullptr);
  struct Form {
    WeightFormat format;
    int64_t group_size;
  };
  const Form forms[] = {{WeightFormat::kInt8, 0},           {WeightFormat::kInt4, 0},
                        {WeightFormat::kUint4Grouped, 32},  {WeightFormat::kUint4Grouped, 64},
                        {WeightFormat::kUint4Grouped, 128}, {WeightFormat::kUint4Grouped, 256}};
  for (const Form& form : forms) {
    for (const int64_t n : {1, 16, 63, 64, 65, 200, 1000}) {
      for (const int64_t k : {16, 128, 144, 1280, 2816}) {
        if (form.group_size > 0 && k % form.group_size != 0) continue;
        for (const bool zeros : {false, true}) {
          if (zeros && form.group_size == 0) continue;
          check_layer({.format = form.format,
                       .n = n,
                       .k = k,
                       .group_size = form.group_size,
                       .group_zeros = zeros,
                       .outliers = n % 2 == 0 ? 40 : 0},
                      upload);
        }
      }
    }
  }
  check_layer({.format = WeightFormat::kInt4, .n = 4096, .k = 11008}, upload);  // more than a piece
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) check_halves(type, upload);
  const float huge = 70000;
  const TensorView view{DType::kF32, {1}, reinterpret_cast<const std::byte*>(&huge)};
  try {
    upload.halves({&view, 1});
    ++failures;
    fmt::print("a weight of {} was taken\n", huge);
  } catch (const Error&) {
  }
  fmt::print("{} packed tensors, {} failures\n", checks, failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tessera::bench

int main() {
  return tessera::bench::status_of(tessera::bench::run);
}
