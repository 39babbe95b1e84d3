// Memory of large tensors on the CPU.
#pragma once

namespace tessera {

/// From now on libtorch keeps the memory of large tensors that it frees and gives it to new ones of the same
/// size. Fresh memory is cleared by the kernel page by page, which takes a quarter of a run. What is kept
/// never makes more than was in use at once, so the peak of a run stays what it is.
void reuse_tensor_memory();

}  // namespace tessera
