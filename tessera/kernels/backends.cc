// The devices by name.
#include "tessera/kernels/backends.h"

#include <charconv>

#include "tessera/base/error.h"
#include "tessera/kernels/cpu/cpu_backend.h"
#include "tessera/kernels/ref/reference_backend.h"
#ifdef TESSERA_CUDA
#include "tessera/kernels/cuda/backend/cuda_backend.h"
#endif

namespace tessera {
namespace {

constexpr std::string_view kCuda = "cuda";

std::unique_ptr<Backend> make_cuda([[maybe_unused]] int device) {
#ifdef TESSERA_CUDA
  return make_cuda_backend(device);
#else
  throw Error("this program was built without CUDA; build it with ./dev build cuda");
#endif
}

}  // namespace

std::unique_ptr<Backend> make_backend(std::string_view device) {
  if (device == "cpu") return make_cpu_backend(detect_cpu_isa());
  if (device == "reference") return make_reference_backend();
  if (device == kCuda) return make_cuda(0);
  int number = 0;
  const std::string_view digits = device.substr(std::min(device.size(), kCuda.size() + 1));
  const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (device.starts_with("cuda:") && status == std::errc() && end == digits.data() + digits.size()) {
    return make_cuda(number);
  }
  throw Error("device '{}' is not known; cpu, cuda, cuda:N and reference are", device);
}

}  // namespace tessera
