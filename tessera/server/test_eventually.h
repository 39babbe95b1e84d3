// Waiting for what other threads do.
#pragma once

#include <chrono>
#include <thread>

namespace tessera {

/// Whether `condition` comes true within 20 seconds; a machine may be busy, or a sanitizer slow.
template <class Condition>
bool eventually(const Condition& condition) {
  for (int i = 0; i < 2000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return condition();
}

}  // namespace tessera
