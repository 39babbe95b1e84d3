// The layout of a page in host memory, for the CPU and the reference backend.
//
// Pages follow one another; in a page layers, in a layer heads. The block of one head:
//
//   keys          [head_dim][kPageTokens] elements: one dimension of all positions together, so that scores
//   of
//                 neighbouring positions are computed side by side. Four bits: [head_dim / 2][kPageTokens]
//                 bytes, dimension i in the low nibble and i + head_dim / 2 in the high one.
//   key scales    float [2][kPageTokens]: scales, zero points. Quantized formats alone
//   values        [kPageTokens] rows as quantize_kv() makes them
//   value scales  KvScale [kPageTokens]. Quantized formats alone
#pragma once

#include <cstddef>
#include <memory>

#include "tessera/kernels/kv_pool.h"

namespace tessera {

/// Offsets in bytes within the block of one head.
struct HeadPageLayout {
  int64_t key_scales = 0, values = 0, value_scales = 0;

  explicit HeadPageLayout(const KvShape& shape);
};

class HostKvPool : public KvPool {
 public:
  /// Zeroed. Throws Error when a quantized format meets an odd head_dim, or memory runs out.
  HostKvPool(const KvShape& shape, int64_t pages);

  const HeadPageLayout& layout() const { return layout_; }
  /// The block of one head of one page.
  uint8_t* head(int64_t page, int64_t layer, int64_t kv_head) const {
    return memory_.get() + page * shape().page_bytes() +
           (layer * shape().n_kv_heads + kv_head) * shape().head_page_bytes();
  }
  size_t bytes() const { return static_cast<size_t>(pages() * shape().page_bytes()); }

 private:
  struct Unmap {
    size_t bytes;
    void operator()(uint8_t* p) const;
  };
  HeadPageLayout layout_;
  std::unique_ptr<uint8_t[], Unmap> memory_;
};

}  // namespace tessera
