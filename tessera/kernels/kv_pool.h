// Keys and values of all sequences, in pages.
//
// A page holds kPageTokens consecutive positions of one sequence: keys and values of every layer and head.
// Which sequence owns which page is the engine's business; a device knows memory alone.
#pragma once

#include <cstdint>

#include "tessera/format/kv_format.h"

namespace tessera {

/// Tokens whose keys and values share a page.
constexpr int64_t kPageTokens = 64;

/// Pages that `tokens` tokens take.
constexpr int64_t pages_for(int64_t tokens) {
  return (tokens + kPageTokens - 1) / kPageTokens;
}

/// What the cache of a model looks like.
struct KvShape {
  int64_t n_layers = 0, n_kv_heads = 0, head_dim = 0;
  KvFormat format = KvFormat::kF16;
  int64_t n_heads = 0;  ///< that query it

  /// Bytes of keys and values of one head in a page, scales included.
  int64_t head_page_bytes() const {
    const int64_t scale = is_quantized(format) ? static_cast<int64_t>(sizeof(KvScale)) : 0;
    return 2 * kPageTokens * (kv_row_bytes(format, head_dim) + scale);
  }
  int64_t page_bytes() const { return n_layers * n_kv_heads * head_page_bytes(); }
};

/// Pages 0 .. pages() - 1 in device memory.
class KvPool {
 public:
  KvPool(const KvShape& shape, int64_t pages) : shape_(shape), pages_(pages) {}
  virtual ~KvPool() = default;
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;

  const KvShape& shape() const { return shape_; }
  int64_t pages() const { return pages_; }

 private:
  KvShape shape_;
  int64_t pages_;
};

}  // namespace tessera
