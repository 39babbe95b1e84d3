// Threads. One OpenMP team serves our kernels and libtorch, so that they never compete for cores.
#pragma once

#include <omp.h>

#include <cstdint>

namespace tessera {

/// Number of threads that parallel_for uses.
inline int thread_count() {
  return omp_get_max_threads();
}

/// Sets the number of threads of every later parallel_for of the calling thread; n >= 1.
inline void set_thread_count(int n) {
  omp_set_num_threads(n);
}

/// Calls body(i) for i in [0, n), spread over the threads in contiguous ranges. `body` must not throw.
template <class Body>
void parallel_for(int64_t n, const Body& body) {
#pragma omp parallel for schedule(static) if (n > 1)
  for (int64_t i = 0; i < n; ++i) body(i);
}

/// The same for items of uneven cost: idle threads take the next item.
template <class Body>
void parallel_for_dynamic(int64_t n, const Body& body) {
#pragma omp parallel for schedule(dynamic, 1) if (n > 1)
  for (int64_t i = 0; i < n; ++i) body(i);
}

}  // namespace tessera
