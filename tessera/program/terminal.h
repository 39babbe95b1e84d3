// What the command line shows: progress on stderr, tables on stdout.
#pragma once

#include <string>
#include <vector>

#include "tessera/base/reporter.h"
#include "tessera/base/stopwatch.h"

namespace tessera {

/// "1.4 s", "2 min 05 s", "1 h 10 min"
std::string format_duration(double seconds);
/// "13.0 MB", "1.2 GB" (powers of 1000)
std::string format_bytes(size_t bytes);

/// Draws a progress bar with the time left on a terminal; elsewhere prints a line at most every ten seconds.
/// Tasks that end within two seconds leave no trace. Remarks are printed as they come.
class TerminalReporter : public Reporter {
 public:
  explicit TerminalReporter(bool quiet) : quiet_(quiet) {}
  ~TerminalReporter() override { clear(); }
  void progress(std::string_view task, int64_t done, int64_t total) override;
  void note(std::string_view line) override;

 private:
  void clear();

  bool quiet_;
  bool bar_shown_ = false;
  std::string task_;
  Stopwatch since_start_, since_shown_;
};

/// A table of text cells: the first column aligned left, the others right.
class Table {
 public:
  explicit Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  /// For reading on a terminal.
  std::string text() const;
  /// The same as GitHub Markdown.
  std::string markdown() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace tessera
