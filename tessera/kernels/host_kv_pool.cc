// Pages in host memory.
#include "tessera/kernels/host_kv_pool.h"

#include <sys/mman.h>

#include "tessera/base/error.h"

namespace tessera {
namespace {

constexpr size_t kOverread = 128;  // kernels read whole panels of 32 floats of the last value row

}  // namespace

HeadPageLayout::HeadPageLayout(const KvShape& shape) {
  const int64_t codes = kPageTokens * kv_row_bytes(shape.format, shape.head_dim);
  const int64_t scales = is_quantized(shape.format) ? kPageTokens * static_cast<int64_t>(sizeof(KvScale)) : 0;
  key_scales = codes;
  values = codes + scales;
  value_scales = values + codes;
}

HostKvPool::HostKvPool(const KvShape& shape, int64_t pages) : KvPool(shape, pages), layout_(shape) {
  if (is_quantized(shape.format) && shape.head_dim % 2 != 0) {
    throw Error("heads of {} dimensions cannot be cached as {}; an even number can", shape.head_dim,
                name_of(shape.format));
  }
  // Mapped memory is zero and takes room only once it is touched.
  const size_t size = bytes() + kOverread;
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw Error(
        "no memory for {} pages of keys and values ({} bytes); ask for a shorter context or fewer "
        "sequences",
        pages, size);
  }
  madvise(memory, size, MADV_HUGEPAGE);  // merely advice
  memory_ = {static_cast<uint8_t*>(memory), Unmap{size}};
}

void HostKvPool::Unmap::operator()(uint8_t* p) const {
  munmap(p, bytes);
}

}  // namespace tessera
