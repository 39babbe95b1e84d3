// A part of a memory, as options name it.
#pragma once

#include <cstdint>
#include <string>

namespace tessera {

struct MemoryShare {
  double share = 0.9;  ///< of the whole; used unless `bytes` is set
  uint64_t bytes = 0;

  /// "0.9", "40GB", "40GiB". Throws CLI::ValidationError for what is neither a size nor a share above 0, at
  /// most 1.
  static MemoryShare parse(const std::string& text);
  uint64_t of(uint64_t total) const;
};

}  // namespace tessera
