#include "tessera/engine/page_allocator.h"

#include <gtest/gtest.h>

#include <set>

#include "tessera/base/error.h"

namespace tessera {
namespace {

TEST(PageAllocator, HandsOutEveryPageButTheReservedOne) {
  PageAllocator pages(5);
  std::set<int32_t> seen;
  while (pages.free_pages() > 0) seen.insert(pages.allocate());
  EXPECT_EQ(seen, (std::set<int32_t>{1, 2, 3, 4}));
  EXPECT_EQ(pages.total(), 5);
}

TEST(PageAllocator, APageIsFreeWithoutItsLastReference) {
  PageAllocator pages(3);
  const int32_t page = pages.allocate();
  pages.add_reference(page);
  EXPECT_EQ(pages.references(page), 2);
  pages.release(page);
  EXPECT_EQ(pages.free_pages(), 1);
  pages.release(page);
  EXPECT_EQ(pages.free_pages(), 2);
  EXPECT_EQ(pages.references(page), 0);
  EXPECT_EQ(pages.allocate(), page);
}

TEST(PageAllocator, RefusesAPoolWithoutPages) {
  EXPECT_THROW(PageAllocator(1), Error);
  EXPECT_THROW(PageAllocator(int64_t{1} << 31), Error);
}

TEST(PageAllocator, CountsPages) {
  EXPECT_EQ(pages_for(0), 0);
  EXPECT_EQ(pages_for(1), 1);
  EXPECT_EQ(pages_for(64), 1);
  EXPECT_EQ(pages_for(65), 2);
}

}  // namespace
}  // namespace tessera
