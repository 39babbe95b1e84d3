// How a product is cut into work for threads: blocks of tokens times panels of outputs.
#pragma once

#include "tessera/base/parallel.h"
#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {

/// body(first token, tokens, panel) for every block of at most kTokenBlock tokens and every panel. Blocks are
/// multiples of 12 tokens, the tallest register tile, except for the last, and as even as that allows:
/// threads get as many of them. Results never depend on the number of threads: each output is computed by one
/// call.
template <class Body>
void for_each_tile(int64_t m, int64_t panels, const Body& body) {
  constexpr int64_t kTallest = 12;
  static_assert(kTokenBlock % kTallest == 0);
  const int64_t blocks = (m + kTokenBlock - 1) / kTokenBlock, tiles = (m + kTallest - 1) / kTallest;
  parallel_for(blocks * panels, [&](int64_t item) {
    const int64_t block = item / panels, first = tiles * block / blocks * kTallest;
    body(first, std::min(tiles * (block + 1) / blocks * kTallest, m) - first, item % panels);
  });
}

}  // namespace tessera
