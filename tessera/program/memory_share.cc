// Shares and sizes.
#include "tessera/program/memory_share.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>

namespace tessera {

MemoryShare MemoryShare::parse(const std::string& text) {
  double number = 0;
  const char* const last = text.data() + text.size();
  const auto [end, status] = std::from_chars(text.data(), last, number);
  if (status == std::errc() && end == last && number > 0 && number <= 1) return {.share = number};
  std::string size = text;
  const std::string problem = CLI::AsSizeValue(/*kb_is_1000=*/true)(size);
  MemoryShare result;
  if (problem.empty() && CLI::detail::lexical_cast(size, result.bytes) && result.bytes > 1) return result;
  throw CLI::ValidationError("'" + text + "' is neither a size such as 40GB nor a share above 0, at most 1");
}

uint64_t MemoryShare::of(uint64_t total) const {
  return bytes > 0 ? std::min(bytes, total) : static_cast<uint64_t>(share * static_cast<double>(total));
}

}  // namespace tessera
