// What belongs to one rendering.
#pragma once

#include <ctime>
#include <deque>
#include <memory>
#include <optional>

#include "tessera/chat/jinja/value.h"

namespace tessera::jinja {

/// One thread, one rendering.
class Runtime {
 public:
  Runtime(const Limits& limits, std::time_t time, bool refuse_undefined)
      : budget(limits), now(time), strict(refuse_undefined) {}

  /// An object that lives as long as the rendering: nothing is freed before, so values may point to it.
  template <class Type, class... Args>
  Type* make(Args&&... args) {
    auto object = std::make_unique<Type>(std::forward<Args>(args)...);
    Type* const pointer = object.get();
    objects_.push_back(std::move(object));
    return pointer;
  }

  Budget budget;
  const std::time_t now;  ///< for strftime_now
  const bool strict;      ///< what is undefined cannot be printed

 private:
  std::deque<std::unique_ptr<Object>> objects_;
};

}  // namespace tessera::jinja
