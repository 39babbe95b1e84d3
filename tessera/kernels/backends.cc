// The devices by name.
#include "tessera/kernels/backends.h"

#include <fmt/ranges.h>

#include <vector>

#include "tessera/base/error.h"
#include "tessera/kernels/cpu/cpu_backend.h"
#include "tessera/kernels/ref/reference_backend.h"

namespace tessera {
namespace {

struct Device {
  std::string_view name;
  std::unique_ptr<Backend> (*make)();
};

const Device kDevices[] = {{"cpu", [] { return make_cpu_backend(detect_cpu_isa()); }},
                           {"reference", [] { return make_reference_backend(); }}};

}  // namespace

std::unique_ptr<Backend> make_backend(std::string_view device) {
  for (const Device& known : kDevices) {
    if (known.name == device) return known.make();
  }
  throw Error("device '{}' is not known (known: {})", device, device_names());
}

std::string device_names() {
  std::vector<std::string_view> names;
  for (const Device& device : kDevices) names.push_back(device.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace tessera
