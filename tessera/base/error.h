// The one exception type of the project.
#pragma once

#include <fmt/format.h>

#include <stdexcept>

namespace tessera {

/// A mistake of the caller or a bad file. The message is one line that says what is wrong, where (file,
/// tensor), and what to do about it. Only cli/ and server/ catch it; they print it and exit with status 2.
class Error : public std::runtime_error {
 public:
  template <class... Args>
  explicit Error(fmt::format_string<Args...> format, Args&&... args)
      : std::runtime_error(fmt::format(format, std::forward<Args>(args)...)) {}
};

}  // namespace tessera
