// Keeps the size of the heap near what is really in use, so that the peak of a run can be predicted. Does
// nothing where the C library is not glibc.
#pragma once

#include <cstddef>

namespace tessera {

/// Blocks beyond this size come straight from the system and go straight back. Smaller ones share the heap,
/// where reuse is cheap but leaves holes.
constexpr size_t kLargestHeapBlock = size_t{8} << 20;

/// Sets that limit, or a lower one, for the whole process; glibc would raise it to 32 MiB as large blocks are
/// freed.
void limit_heap_blocks(size_t largest = kLargestHeapBlock);

/// Gives the pages of freed memory back to the system.
void release_free_memory();

}  // namespace tessera
