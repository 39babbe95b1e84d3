// The oracle of all backends.
#pragma once

#include <memory>

#include "tessera/kernels/backend.h"

namespace tessera {

/// Scalar code in the order of the definitions, sums in double; slow, for tests.
std::unique_ptr<Backend> make_reference_backend();

}  // namespace tessera
