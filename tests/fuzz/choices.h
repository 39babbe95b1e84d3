// Bytes of the input as choices, for targets whose input says what to compute.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <ranges>
#include <string_view>

namespace tessera {

class Choices {
 public:
  explicit Choices(std::string_view input) : input_(input) {}

  /// The next byte as a number below `limit`; 0 behind the end.
  int64_t below(int64_t limit) {
    return next_ < input_.size() ? static_cast<uint8_t>(input_[next_++]) % limit : 0;
  }
  auto one_of(const std::ranges::random_access_range auto& values) {
    return values[static_cast<size_t>(below(std::ssize(values)))];
  }

 private:
  std::string_view input_;
  size_t next_ = 0;
};

}  // namespace tessera
