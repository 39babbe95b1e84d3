// Rows of numbers in device memory, and who owns them.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "tessera/base/dtype.h"

namespace tessera {

/// Device memory. Freed on destruction.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() = 0;
  virtual size_t bytes() const = 0;
  float* floats() { return static_cast<float*>(data()); }
};

/// What rows hold. A backend chooses their data type by it.
enum class RowUse : uint8_t {
  kResidual,      ///< the residual stream, which grows over the blocks
  kIntermediate,  ///< q, k, v, gate, up, what a block adds to the residual stream
  kLogits
};

/// A view of rows in device memory, one row a token.
struct Rows {
  void* data = nullptr;
  DType type = DType::kF32;
  int64_t count = 0, width = 0;
  int64_t stride = 0;  ///< elements from one row to the next

  Rows first(int64_t rows) const {
    assert(rows <= count);
    return {data, type, rows, width, stride};
  }
  Rows columns(int64_t begin, int64_t columns) const {
    assert(begin + columns <= width);
    auto* bytes = static_cast<std::byte*>(data) + static_cast<size_t>(begin) * size_of(type);
    return {bytes, type, count, columns, stride};
  }
  /// Row i, for backends whose rows are floats.
  float* floats(int64_t i) const {
    assert(type == DType::kF32 && i >= 0 && i < count);
    return static_cast<float*>(data) + i * stride;
  }
};

/// Rows with their memory.
struct RowBuffer {
  std::unique_ptr<Buffer> memory;
  Rows rows;
};

}  // namespace tessera
