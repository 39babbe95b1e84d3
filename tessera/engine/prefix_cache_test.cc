#include "tessera/engine/prefix_cache.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

using Pages = std::vector<int32_t>;

class PrefixCacheTest : public testing::Test {
 protected:
  /// Full pages of ids, each page of one id: text({1, 2}) is 64 times 1, then 64 times 2.
  static std::vector<int32_t> text(const std::vector<int32_t>& each) {
    std::vector<int32_t> ids;
    for (const int32_t id : each) ids.insert(ids.end(), kPageTokens, id);
    return ids;
  }
  Pages allocate(size_t count) {
    Pages pages;
    while (pages.size() < count) pages.push_back(pages_.allocate());
    return pages;
  }
  /// What a sequence does that computes the text and ends.
  Pages enter(const std::vector<int32_t>& each, uint64_t salt = 0) {
    Pages pages = allocate(each.size());
    cache_.insert(salt, text(each), pages);
    cache_.release(pages);
    return pages;
  }

  PageAllocator pages_{10};
  PrefixCache cache_{pages_, /*enabled=*/true};
};

TEST_F(PrefixCacheTest, FindsTheLongestChainOfFullPages) {
  const Pages pages = enter({1, 2, 3});
  EXPECT_EQ(cache_.find(0, text({1, 2, 3, 4})), pages);
  EXPECT_EQ(cache_.find(0, text({1, 2, 4})), (Pages{pages[0], pages[1]}));
  std::vector<int32_t> other = text({1, 2});
  other.pop_back();
  EXPECT_EQ(cache_.find(0, other), (Pages{pages[0]}));
  other[0] = 7;
  EXPECT_EQ(cache_.find(0, other), Pages{});
}

TEST_F(PrefixCacheTest, APageIsKnownByAllBeforeIt) {
  enter({1, 2});
  EXPECT_EQ(cache_.find(0, text({2})), Pages{});
  enter({3});
  EXPECT_EQ(cache_.find(0, text({3, 2})).size(), 1u);
}

TEST_F(PrefixCacheTest, SaltsShareNothing) {
  const Pages one = enter({1, 2}, /*salt=*/1);
  EXPECT_EQ(cache_.find(2, text({1, 2})), Pages{});
  const Pages two = enter({1, 2}, /*salt=*/2);
  EXPECT_EQ(cache_.find(1, text({1, 2})), one);
  EXPECT_EQ(cache_.find(2, text({1, 2})), two);
}

TEST_F(PrefixCacheTest, APageEnteredTwiceIsKeptOnce) {
  const Pages first = enter({1, 2});
  Pages second = allocate(3);
  EXPECT_EQ(pages_.free_pages(), 4);
  cache_.insert(0, text({1}), std::span(second).first(1));
  EXPECT_EQ(second[0], first[0]);
  cache_.insert(0, text({1, 2, 3}), second);
  EXPECT_EQ(second[1], first[1]);
  EXPECT_EQ(pages_.free_pages(), 6);
  EXPECT_EQ(cache_.idle_pages(), 0);
  EXPECT_EQ(cache_.find(0, text({1, 2, 3})), second);
}

TEST_F(PrefixCacheTest, PagesInUseAreNotIdle) {
  const Pages pages = enter({1, 2, 3});
  EXPECT_EQ(cache_.idle_pages(), 3);
  const Pages once = cache_.find(0, text({1, 2}));
  const Pages twice = cache_.find(0, text({1}));
  EXPECT_EQ(cache_.idle_pages(), 1);
  cache_.release(once);
  EXPECT_EQ(cache_.idle_pages(), 2);
  EXPECT_EQ(pages_.references(pages[0]), 2);
  cache_.release(twice);
  EXPECT_EQ(cache_.idle_pages(), 3);
  EXPECT_EQ(pages_.free_pages(), 6);
}

TEST_F(PrefixCacheTest, EvictsChildrenFirstAndTheLeastRecentlyUsedBefore) {
  const Pages a = enter({1, 2});
  const Pages b = enter({5, 6});
  cache_.release(cache_.find(0, text({1})));
  for (const int32_t page : {a[1], b[1], b[0], a[0]}) {
    EXPECT_EQ(pages_.references(page), 1);
    cache_.evict();
    EXPECT_EQ(pages_.references(page), 0);
  }
  EXPECT_EQ(cache_.find(0, text({1, 2})), Pages{});
  EXPECT_EQ(pages_.free_pages(), 9);
}

TEST_F(PrefixCacheTest, AnEvictedPageIsEnteredAgain) {
  const Pages first = enter({1, 2});
  cache_.evict();
  EXPECT_EQ(cache_.find(0, text({1, 2})), (Pages{first[0]}));
  const Pages second = enter({1, 2});
  EXPECT_EQ(second[0], first[0]);
  EXPECT_EQ(cache_.find(0, text({1, 2})), second);
}

TEST(DisabledPrefixCache, StaysEmpty) {
  PageAllocator pages(4);
  PrefixCache cache(pages, /*enabled=*/false);
  Pages own{pages.allocate()};
  const std::vector<int32_t> ids(kPageTokens, 1);
  cache.insert(0, ids, own);
  EXPECT_EQ(cache.find(0, ids), Pages{});
  cache.release(own);
  EXPECT_EQ(cache.idle_pages(), 0);
  EXPECT_EQ(pages.free_pages(), 3);
}

}  // namespace
}  // namespace tessera
