// Pages of the KV pool: which are free, and how many hold each of the others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tessera/kernels/kv_pool.h"

namespace tessera {

/// Numbers of pages, with reference counts. It owns no memory: the pool of the device does. Page 0 is never
/// handed out; block tables are padded with it.
class PageAllocator {
 public:
  /// Pages are 0 ... pages - 1. Throws Error when there is none beside page 0.
  explicit PageAllocator(int64_t pages);

  /// A page with one reference. At least one must be free.
  int32_t allocate();
  void add_reference(int32_t page);
  /// Drops one reference; the page is free when it was the last.
  void release(int32_t page);

  /// 0 for a free page.
  int32_t references(int32_t page) const { return references_[static_cast<size_t>(page)]; }
  int64_t free_pages() const { return static_cast<int64_t>(free_.size()); }
  /// All pages, page 0 too.
  int64_t total() const { return static_cast<int64_t>(references_.size()); }

 private:
  std::vector<int32_t> references_;  ///< [total]
  std::vector<int32_t> free_;        ///< the next one is at the end
};

}  // namespace tessera
