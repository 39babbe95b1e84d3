// The prepared input of a site's linears in the reference backend: float rows.
#pragma once

#include <cassert>
#include <span>
#include <vector>

#include "tessera/kernels/backend.h"

namespace tessera {

class ReferenceInput : public LinearInput {
 public:
  ReferenceInput(int64_t max_rows, int64_t max_width) : values_(static_cast<size_t>(max_rows * max_width)) {}
  /// Room for m rows in `how`.
  std::span<float> reserve(int64_t m, const InputFormat& how) {
    format = &how;
    assert(static_cast<size_t>(m * how.width()) <= values_.size());
    return std::span(values_).first(static_cast<size_t>(m * how.width()));
  }
  std::span<const float> rows(int64_t m) const {
    return std::span(values_).first(static_cast<size_t>(m * format->width()));
  }

 private:
  std::vector<float> values_;
};

}  // namespace tessera
