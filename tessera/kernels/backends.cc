// The devices by name.
#include "tessera/kernels/backends.h"

#include "tessera/base/error.h"
#include "tessera/kernels/cpu/cpu_backend.h"
#include "tessera/kernels/ref/reference_backend.h"

namespace tessera {

std::unique_ptr<Backend> make_backend(std::string_view device) {
  if (device == "cpu") return make_cpu_backend(detect_cpu_isa());
  if (device == "reference") return make_reference_backend();
  throw Error("device '{}' is not known (cpu and reference are)", device);
}

}  // namespace tessera
