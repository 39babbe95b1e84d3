// A guard against endless recursion.
#pragma once

#include "tessera/chat/jinja/budget.h"

namespace tessera::jinja {

/// Counts one more level while it lives. Throws Failure where there are too many.
class Nesting {
 public:
  Nesting(const Budget& budget, int& depth) : depth_(depth) {
    if (depth_ == budget.limits().nesting) throw Failure("the template is nested more than {} deep", depth_);
    ++depth_;
  }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;
  ~Nesting() { --depth_; }

 private:
  int& depth_;
};

}  // namespace tessera::jinja
