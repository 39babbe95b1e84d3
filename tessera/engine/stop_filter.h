// Stop strings in a stream of text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tessera {

/// Passes text on until a stop string is complete, and never a part of one: text that may still become a stop
/// string is held back.
class StopFilter {
 public:
  /// Empty strings are ignored.
  explicit StopFilter(std::vector<std::string> stops);

  /// The text that is now certain not to belong to a stop string. Behind the earliest stop everything is
  /// dropped.
  std::string push(std::string_view text);
  /// What is still held back.
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  /// Length of the longest end of pending_ that begins a stop string.
  size_t possible_beginning() const;

  std::vector<std::string> stops_;
  std::string pending_;
  bool stopped_ = false;
};

}  // namespace tessera
