// Loops that are unrolled in the source. g++ keeps an array of accumulators in registers only when its
// indices are constants before the optimiser's first passes; a loop, even one that it unrolls later, costs a
// store for every product (measured with g++ 12: the 12 x 2 tile ran at 37 % of its speed). Only for
// kernels.cc files.
#pragma once

namespace tessera {
namespace {

template <int kValue>
struct Index {
  constexpr operator int() const { return kValue; }
};

/// body(0), body(1), ... body(kCount - 1), the argument usable as a constant.
template <int kCount, class Body>
[[gnu::always_inline]] inline void unrolled(const Body& body) {
  if constexpr (kCount > 0) {
    unrolled<kCount - 1>(body);
    body(Index<kCount - 1>{});
  }
}

}  // namespace
}  // namespace tessera
