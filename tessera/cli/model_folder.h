// What tables say about a model folder.
#pragma once

#include <cstddef>
#include <string>

namespace tessera {

/// Last component of a model folder: its name in tables.
std::string base_name(const std::string& dir);

/// Size of the weights of a model folder in bytes.
size_t weight_bytes(const std::string& dir);

}  // namespace tessera
