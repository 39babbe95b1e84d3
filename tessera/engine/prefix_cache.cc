// Full pages that later sequences with the same beginning can use.
#include "tessera/engine/prefix_cache.h"

#include <algorithm>
#include <cassert>

namespace tessera {

size_t PrefixCache::Hash::operator()(const Key& key) const {
  uint64_t hash = key.salt;
  const auto mix = [&hash](int32_t word) {
    hash = (hash ^ static_cast<uint32_t>(word)) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 32;
  };
  mix(key.parent);
  for (const int32_t id : key.ids) mix(id);
  return hash;
}

PrefixCache::Key PrefixCache::key_of(uint64_t salt, int32_t parent, const int32_t* ids) {
  Key key{salt, parent, {}};
  std::copy_n(ids, kPageTokens, key.ids.begin());
  return key;
}

PrefixCache::PrefixCache(PageAllocator& pages, bool enabled)
    : pages_(pages), enabled_(enabled), entries_(static_cast<size_t>(pages.total())) {}

std::vector<int32_t> PrefixCache::find(uint64_t salt, std::span<const int32_t> ids) {
  std::vector<int32_t> chain;
  int32_t parent = 0;
  for (size_t at = 0; at + kPageTokens <= ids.size(); at += kPageTokens) {
    const auto found = cached_.find(key_of(salt, parent, &ids[at]));
    if (found == cached_.end()) break;
    parent = found->second;
    hold(parent);
    chain.push_back(parent);
  }
  return chain;
}

void PrefixCache::insert(uint64_t salt, std::span<const int32_t> ids, std::span<int32_t> pages) {
  assert(ids.size() == pages.size() * kPageTokens);
  if (!enabled_) return;
  size_t entered = pages.size();
  while (entered > 0 && entry(pages[entered - 1]).key == nullptr) --entered;
  for (size_t i = entered; i < pages.size(); ++i) {
    const int32_t parent = i == 0 ? 0 : pages[i - 1];
    const auto [place, is_missing] =
        cached_.try_emplace(key_of(salt, parent, &ids[i * kPageTokens]), pages[i]);
    if (is_missing) {
      entry(pages[i]).key = &place->first;
      pages_.add_reference(pages[i]);
    } else {
      hold(place->second);
      pages_.release(pages[i]);
      pages[i] = place->second;
    }
  }
}

void PrefixCache::hold(int32_t page) {
  if (pages_.references(page) == 1) idle_.erase(entry(page).idle);
  pages_.add_reference(page);
}

void PrefixCache::release(std::span<const int32_t> pages) {
  // From the last to the first, so that children come before their parents in idle_.
  for (size_t i = pages.size(); i-- > 0;) {
    const int32_t page = pages[i];
    pages_.release(page);
    if (entry(page).key != nullptr && pages_.references(page) == 1) {
      entry(page).idle = idle_.insert(idle_.end(), page);
    }
  }
}

void PrefixCache::evict() {
  assert(!idle_.empty());
  const int32_t page = idle_.front();
  idle_.pop_front();
  cached_.erase(cached_.find(*entry(page).key));
  entry(page).key = nullptr;
  pages_.release(page);
}

}  // namespace tessera
