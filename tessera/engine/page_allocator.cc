// Pages of the KV pool: which are free, and how many hold each of the others.
#include "tessera/engine/page_allocator.h"

#include <cassert>
#include <limits>

#include "tessera/base/error.h"

namespace tessera {

PageAllocator::PageAllocator(int64_t pages) {
  if (pages < 2 || pages > std::numeric_limits<int32_t>::max()) {
    throw Error("a KV pool of {} pages is out of range: 2 (one is reserved) to 2^31 - 1", pages);
  }
  references_.resize(static_cast<size_t>(pages));
  free_.reserve(static_cast<size_t>(pages) - 1);
  for (int64_t page = pages - 1; page > 0; --page) free_.push_back(static_cast<int32_t>(page));
}

int32_t PageAllocator::allocate() {
  assert(!free_.empty());
  const int32_t page = free_.back();
  free_.pop_back();
  references_[static_cast<size_t>(page)] = 1;
  return page;
}

void PageAllocator::add_reference(int32_t page) {
  assert(references(page) > 0);
  ++references_[static_cast<size_t>(page)];
}

void PageAllocator::release(int32_t page) {
  assert(references(page) > 0);
  if (--references_[static_cast<size_t>(page)] == 0) free_.push_back(page);
}

}  // namespace tessera
