// How libraries tell the outside what they are doing. They never print: the command line draws the bar.
#pragma once

#include <cstdint>
#include <string_view>

namespace tessera {

/// Receives progress and remarks of a long job. The default ignores both.
class Reporter {
 public:
  virtual ~Reporter() = default;
  /// `done` of `total` units of `task` are finished; units cost about the same time, so the caller can
  /// extrapolate.
  virtual void progress(std::string_view /*task*/, int64_t /*done*/, int64_t /*total*/) {}
  /// A remark that the user should see (a retry, a fallback, a prediction), one line.
  virtual void note(std::string_view /*line*/) {}
};

}  // namespace tessera
