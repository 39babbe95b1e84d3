// Full pages that later sequences with the same beginning can use.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <vector>

#include "tessera/engine/page_allocator.h"

namespace tessera {

/// A tree of pages. A page is known by the page before it (its parent) and its own 64 ids, compared one by
/// one, so that a collision of hashes cannot show one text to another. The root is a salt: sequences of
/// different salts share nothing.
///
/// Who holds a page holds all before it too. So no page is idle (held by the cache alone) while one behind
/// it is in use, and pages can be dropped in the order in which they fell idle, children before parents.
class PrefixCache {
 public:
  /// `pages` must outlive it. A cache that is not enabled stays empty.
  PrefixCache(PageAllocator& pages, bool enabled);

  /// The longest cached chain with which `ids` begin, with a reference to each page for the caller.
  std::vector<int32_t> find(uint64_t salt, std::span<const int32_t> ids);

  /// Enters the full pages of a sequence: ids [64 * pages], those already entered before the others. Where
  /// the cache has the same page already, the caller's own is released and the cached one, with a reference,
  /// takes its place in `pages`.
  void insert(uint64_t salt, std::span<const int32_t> ids, std::span<int32_t> pages);

  /// Drops a sequence's references to all of its pages, cached or not.
  void release(std::span<const int32_t> pages);

  /// Frees the page that has been idle for longest. At least one must be idle.
  void evict();

  /// Pages that only the cache holds; all of them can be evicted.
  int64_t idle_pages() const { return static_cast<int64_t>(idle_.size()); }

 private:
  using PageIds = std::array<int32_t, kPageTokens>;
  struct Key {
    uint64_t salt;
    int32_t parent;  ///< page; 0 for the first page of a sequence
    PageIds ids;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    size_t operator()(const Key& key) const;
  };
  struct Entry {
    const Key* key = nullptr;  ///< null: not cached
    std::list<int32_t>::iterator idle = {};
  };

  static Key key_of(uint64_t salt, int32_t parent, const int32_t* ids);
  Entry& entry(int32_t page) { return entries_[static_cast<size_t>(page)]; }
  void hold(int32_t page);

  PageAllocator& pages_;
  bool enabled_;
  std::unordered_map<Key, int32_t, Hash> cached_;  ///< to the page
  std::vector<Entry> entries_;                     ///< [pages]
  std::list<int32_t> idle_;                        ///< the one idle for longest first
};

}  // namespace tessera
