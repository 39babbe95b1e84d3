// The files of the folder recipes/, as CMake compiles them in.
#pragma once

#include <span>
#include <string_view>

namespace tessera {

/// One JSON text a file.
std::span<const std::string_view> built_in_recipes();

}  // namespace tessera
