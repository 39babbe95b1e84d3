// Where tests find the models and texts that do not live in the repository. Test code only.
#pragma once

#include <cstdlib>
#include <filesystem>

namespace tessera {

/// The folder that holds models/, data/ and tools/: $TESSERA_SHARED, or "shared" beside the source tree. May
/// not exist.
inline std::filesystem::path shared_dir() {
  if (const char* dir = std::getenv("TESSERA_SHARED")) return dir;
  return std::filesystem::path(TESSERA_SOURCE_DIR).parent_path() / "shared";
}

}  // namespace tessera

/// Skips the running test, with the reason printed, when `path` is absent.
#define TESSERA_REQUIRE_FILE(path)    \
  if (!std::filesystem::exists(path)) \
  GTEST_SKIP() << "needs " << (path) << "; set TESSERA_SHARED to its folder"
