// Progress bar and tables.
#include "tessera/program/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace tessera {
namespace {

constexpr int kBarWidth = 24;
constexpr double kShowAfterSeconds = 2.0;

/// Columns that a UTF-8 string takes on the screen, for the characters that we print.
size_t display_width(const std::string& text) {
  return static_cast<size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
}

std::vector<size_t> column_widths(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths(rows.front().size(), 0);
  for (const auto& row : rows) {
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], display_width(row[c]));
  }
  return widths;
}

std::string padded(const std::string& cell, size_t width, bool left) {
  const std::string space(width - display_width(cell), ' ');
  return left ? cell + space : space + cell;
}

}  // namespace

std::string format_duration(double seconds) {
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<int64_t>(std::lround(seconds));
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

std::string format_bytes(size_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value < 1e6) return fmt::format("{:.1f} kB", value / 1e3);
  if (value < 1e9) return fmt::format("{:.1f} MB", value / 1e6);
  return fmt::format("{:.2f} GB", value / 1e9);
}

void TerminalReporter::progress(std::string_view task, int64_t done, int64_t total) {
  if (quiet_) return;
  if (task_ != task || done == 0) {
    clear();
    task_ = task;
    since_start_ = since_shown_ = {};
  }
  const double elapsed = since_start_.seconds();
  const bool terminal = isatty(STDERR_FILENO) != 0;
  if (done >= total) {
    clear();
    if (elapsed > kShowAfterSeconds) fmt::print(stderr, "{}: done in {}\n", task, format_duration(elapsed));
    task_.clear();
    return;
  }
  if (done == 0 || elapsed < kShowAfterSeconds || since_shown_.seconds() < (terminal ? 0.1 : 10.0)) return;
  since_shown_ = {};
  const double left = elapsed / static_cast<double>(done) * static_cast<double>(total - done);
  if (!terminal) {
    fmt::print(stderr, "{}: {}/{}, {} left\n", task, done, total, format_duration(left));
    return;
  }
  const auto filled = static_cast<size_t>(kBarWidth * done / total);
  fmt::print(stderr, "\r\033[K{} [{:<{}}] {}/{}  {} left", task, std::string(filled, '#'), kBarWidth, done,
             total, format_duration(left));
  std::fflush(stderr);
  bar_shown_ = true;
}

void TerminalReporter::note(std::string_view line) {
  if (quiet_) return;
  clear();
  fmt::print(stderr, "{}\n", line);
}

void TerminalReporter::clear() {
  if (bar_shown_) fmt::print(stderr, "\r\033[K");
  bar_shown_ = false;
}

std::string Table::text() const {
  const std::vector<size_t> widths = column_widths(rows_);
  std::string out;
  for (size_t r = 0; r < rows_.size(); ++r) {
    for (size_t c = 0; c < widths.size(); ++c) {
      out += (c ? "  " : "") + padded(c < rows_[r].size() ? rows_[r][c] : "", widths[c], c == 0);
    }
    out += '\n';
    if (r == 0) {
      for (size_t c = 0; c < widths.size(); ++c) out += (c ? "  " : "") + std::string(widths[c], '-');
      out += '\n';
    }
  }
  return out;
}

std::string Table::markdown() const {
  std::string out;
  for (size_t r = 0; r < rows_.size(); ++r) {
    out += '|';
    for (const std::string& cell : rows_[r]) out += ' ' + cell + " |";
    out += '\n';
    if (r == 0) {
      out += "|---|";
      for (size_t c = 1; c < rows_[r].size(); ++c) out += "---:|";
      out += '\n';
    }
  }
  return out;
}

}  // namespace tessera
