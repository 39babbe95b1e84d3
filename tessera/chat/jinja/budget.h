// What a template may use up, so that a hostile one cannot stop the program.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tessera/base/error.h"

namespace tessera::jinja {

/// A template that goes wrong while it runs. The message does not say where: the evaluator adds the place.
class Failure : public Error {
 public:
  using Error::Error;
};

struct Limits {
  int64_t steps = 1'000'000;        ///< nodes evaluated, and values and text handled by filters
  int nesting = 1000;               ///< of evaluation: blocks, expressions and macro calls inside each other
  size_t output_bytes = 4u << 20u;  ///< of the rendered text
};

/// Counts what one rendering uses.
class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits) {}

  const Limits& limits() const { return limits_; }

  /// Throws Failure when the steps are used up.
  void spend(int64_t steps) {
    left_ -= steps;
    if (left_ < 0) throw Failure("the template does not end within {} steps", limits_.steps);
  }
  /// For text that is about to be made or looked through: a step for every 256 bytes.
  void spend_text(size_t bytes) { spend(static_cast<int64_t>(bytes / 256) + 1); }

 private:
  Limits limits_;
  int64_t left_ = limits_.steps;
};

}  // namespace tessera::jinja
