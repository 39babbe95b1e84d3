// An allocator for libtorch.
#include "tessera/quant/block/tensor_memory.h"

#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>
#include <torch/version.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <mutex>
#include <new>
#include <unordered_map>

namespace tessera {
namespace {

struct Piece {
  void* data;
  size_t bytes;
};

/// Maps pieces of whole pages and keeps freed ones. libtorch frees tensors on any thread.
class MemoryCache {
 public:
  void* take(size_t bytes) {
    const std::lock_guard lock(mutex_);
    void* data = take_kept(bytes);
    if (!data) {
      make_room(bytes);
      data = map(bytes);
    }
    size_[data] = bytes;
    used_ += bytes;
    peak_ = std::max(peak_, used_);
    return data;
  }

  /// False for what is not from here.
  bool give_back(void* data) {
    const std::lock_guard lock(mutex_);
    const auto it = size_.find(data);
    if (it == size_.end()) return false;
    used_ -= it->second;
    kept_ += it->second;
    pieces_.push_back({data, it->second});
    size_.erase(it);
    return true;
  }

 private:
  /// Of the kept pieces of this size the one that was freed last.
  void* take_kept(size_t bytes) {
    const auto it =
        std::find_if(pieces_.rbegin(), pieces_.rend(), [&](const Piece& p) { return p.bytes == bytes; });
    if (it == pieces_.rend()) return nullptr;
    void* data = it->data;
    kept_ -= bytes;
    pieces_.erase(std::next(it).base());
    return data;
  }

  void make_room(size_t bytes) {
    const size_t most = std::max(peak_, used_ + bytes);
    while (!pieces_.empty() && used_ + bytes + kept_ > most) unmap_oldest();
  }

  void unmap_oldest() {
    kept_ -= pieces_.front().bytes;
    munmap(pieces_.front().data, pieces_.front().bytes);
    pieces_.pop_front();
  }

  static void* map(size_t bytes) {
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) throw std::bad_alloc();
    madvise(data, bytes, MADV_HUGEPAGE);
    return data;
  }

  std::mutex mutex_;
  std::unordered_map<void*, size_t> size_;  ///< of pieces in use
  std::list<Piece> pieces_;                 ///< kept ones, the oldest first
  size_t used_ = 0, kept_ = 0, peak_ = 0;   ///< bytes in use, kept, and most in use at once
};

MemoryCache& cache() {
  static MemoryCache* const only = new MemoryCache;  // tensors outlive the end of main
  return *only;
}

class Allocator final : public c10::Allocator {
 public:
  /// One for all sizes: libtorch's own code may take and free memory without a tensor.
  c10::DeleterFnPtr raw_deleter() const override { return &free_piece; }
#if TORCH_VERSION_MAJOR >= 2
  c10::DataPtr allocate(size_t bytes) override {
    return piece(bytes);
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }
#else
  c10::DataPtr allocate(size_t bytes) const override {
    return piece(bytes);
  }
#endif

 private:
  static c10::DataPtr piece(size_t bytes) {
    constexpr size_t kLarge = size_t{1} << 20, kPage = 4096;
    void* data = bytes < kLarge ? c10::GetDefaultCPUAllocator()->raw_allocate(bytes)
                                : cache().take((bytes + kPage - 1) / kPage * kPage);
    return {data, data, &free_piece, at::kCPU};
  }
  static void free_piece(void* data) {
    if (!cache().give_back(data)) c10::GetDefaultCPUAllocator()->raw_deallocate(data);
  }
};

}  // namespace

void reuse_tensor_memory() {
  static Allocator allocator;
  c10::SetCPUAllocator(&allocator);
}

}  // namespace tessera
