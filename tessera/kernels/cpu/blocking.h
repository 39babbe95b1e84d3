// How a product is cut into work for threads: blocks of tokens times panels of outputs.
#pragma once

#include "tessera/base/parallel.h"
#include "tessera/kernels/cpu/kernel_table.h"

namespace tessera {

/// body(first token, tokens, panel) for every block of at most kTokenBlock tokens and every panel. Blocks are
/// multiples of 12 tokens, the tallest register tile, except for the last. Results never depend on the number
/// of threads: each output is computed by one call.
template <class Body>
void for_each_tile(int64_t m, int64_t panels, const Body& body) {
  const int64_t blocks = (m + kTokenBlock - 1) / kTokenBlock;
  const int64_t height = round_up((m + blocks - 1) / blocks, 12);
  parallel_for(blocks * panels, [&](int64_t item) {
    const int64_t first = item / panels * height;
    if (first < m) body(first, std::min(height, m - first), item % panels);
  });
}

}  // namespace tessera
