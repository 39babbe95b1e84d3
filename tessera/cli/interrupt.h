// Ctrl-C as a wish that can be asked for.
#pragma once

namespace tessera {

/// While one lives SIGINT does not end the program but is noted. One at a time.
class Interrupt {
 public:
  Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;
  ~Interrupt();

  /// Whether it has come since the last clear().
  bool pending() const;
  void clear();
  /// Waits until `file` can be read. False when SIGINT came first, or before.
  bool wait_for(int file) const;
};

}  // namespace tessera
