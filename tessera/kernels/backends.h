// The devices by name.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tessera/kernels/backend.h"

namespace tessera {

/// "cpu": the best instruction set of this processor, or the lower one that the environment variable
/// TESSERA_ISA names. "cuda" or "cuda:N": an NVIDIA GPU, in programs that were built with it. "reference":
/// scalar code in the order of the definitions, slow, for tests. Throws Error for other names, listing these.
std::unique_ptr<Backend> make_backend(std::string_view device);

/// The names that make_backend knows: "cpu, cuda[:N], reference".
std::string device_names();

}  // namespace tessera
