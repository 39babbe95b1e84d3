// Writing GGUF files (version 3).
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tessera/base/atomic_output.h"
#include "tessera/base/tensor.h"
#include "tessera/source/gguf_blocks.h"

namespace tessera {

/// A tensor that is going to be written: rows of whole blocks.
struct GgufEntry {
  std::string name;
  const GgufFormat* format = nullptr;
  Shape shape;  ///< slowest dimension first

  size_t bytes() const {
    return static_cast<size_t>(element_count(shape) / format->elements * format->bytes);
  }
};

/// One .gguf file that appears whole or not at all: the header at once, then the tensors one by one.
class GgufWriter {
 public:
  /// `metadata` is an object of strings, booleans, integers, which become uint32 or (signed ones) int32,
  /// floats, which become float32, and arrays of one of these.
  GgufWriter(const std::filesystem::path& path, const nlohmann::ordered_json& metadata,
             const std::vector<GgufEntry>& tensors);

  /// The data of the next tensor.
  void add(std::span<const std::byte> data);
  /// All tensors must have been added.
  void commit() { file_.commit(); }

 private:
  void pad();

  AtomicFile file_;
  uint64_t written_ = 0;
};

}  // namespace tessera
