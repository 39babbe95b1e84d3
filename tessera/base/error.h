// The one exception type of the project.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace tessera {

/// `text` with its control characters escaped.
std::string one_line(const std::string& text);

/// A mistake of the caller or a bad file. The message is one line that says what is wrong, where (file,
/// tensor), and what to do about it; control characters of names in it are escaped. The programs print
/// it and exit with status 2; the server answers the request with it.
class Error : public std::runtime_error {
 public:
  template <class... Args>
  explicit Error(fmt::format_string<Args...> format, Args&&... args)
      : std::runtime_error(one_line(fmt::format(format, std::forward<Args>(args)...))) {}
};

}  // namespace tessera
