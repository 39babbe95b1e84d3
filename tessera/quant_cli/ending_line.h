// What a run says when it is interrupted.
#pragma once

#include <string>

namespace tessera {

/// While one lives, SIGINT and SIGTERM end the program as they do, but with a line on stderr. One at a time.
class EndingLine {
 public:
  explicit EndingLine(const std::string& line);
  EndingLine(const EndingLine&) = delete;
  EndingLine& operator=(const EndingLine&) = delete;
  ~EndingLine();
};

}  // namespace tessera
