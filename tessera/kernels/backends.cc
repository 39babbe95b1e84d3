// The devices by name.
#include "tessera/kernels/backends.h"

#include <fmt/ranges.h>

#include <charconv>
#include <optional>
#include <vector>

#include "tessera/base/error.h"
#include "tessera/kernels/cpu/cpu_backend.h"
#include "tessera/kernels/ref/reference_backend.h"
#ifdef TESSERA_CUDA
#include "tessera/kernels/cuda/backend/cuda_backend.h"
#endif

namespace tessera {
namespace {

std::unique_ptr<Backend> make_cuda([[maybe_unused]] int number) {
#ifdef TESSERA_CUDA
  return make_cuda_backend(number);
#else
  throw Error("this program was built without CUDA; build it with ./dev build cuda");
#endif
}

struct Device {
  std::string_view name;
  std::unique_ptr<Backend> (*make)(int number);
  bool numbered = false;  ///< NAME:N is one of several
};

const Device kDevices[] = {{"cpu", [](int) { return make_cpu_backend(detect_cpu_isa()); }},
                           {"cuda", make_cuda, /*numbered=*/true},
                           {"reference", [](int) { return make_reference_backend(); }}};

/// The number behind the colon of "NAME:N"; empty for what is none.
std::optional<int> number_of(std::string_view digits) {
  int number = 0;
  const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (status != std::errc() || end != digits.data() + digits.size() || number < 0) return {};
  return number;
}

}  // namespace

std::unique_ptr<Backend> make_backend(std::string_view device) {
  for (const Device& known : kDevices) {
    if (known.name == device) return known.make(0);
    if (!known.numbered || !device.starts_with(fmt::format("{}:", known.name))) continue;
    if (const auto number = number_of(device.substr(known.name.size() + 1))) return known.make(*number);
  }
  throw Error("device '{}' is not known (known: {})", device, device_names());
}

std::string device_names() {
  std::vector<std::string> names;
  for (const Device& device : kDevices) {
    names.emplace_back(device.name);
    if (device.numbered) names.back() += "[:N]";
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace tessera
