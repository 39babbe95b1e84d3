// Names and sizes of model folders.
#include "tessera/cli/model_folder.h"

#include <filesystem>

#include "tessera/format/checkpoint.h"

namespace tessera {

std::string base_name(const std::string& dir) {
  const std::filesystem::path path(dir);
  return (path.has_filename() ? path.filename() : path.parent_path().filename()).string();
}

size_t weight_bytes(const std::string& dir) {
  size_t total = 0;
  for (const auto& path : Checkpoint(dir).files()) total += std::filesystem::file_size(path);
  return total;
}

}  // namespace tessera
