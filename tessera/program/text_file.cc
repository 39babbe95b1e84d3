// Reading, judging and tokenizing texts.
#include "tessera/program/text_file.h"

#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/base/mapped_file.h"
#include "tessera/text/unicode.h"

namespace tessera {
namespace {

constexpr int64_t kMargin = 1024;  ///< ids near a cut may depend on what was cut off
constexpr size_t kBytesPerId = 8;  ///< more than most texts have; where it is too little more is read
constexpr size_t kLeastBytes = size_t{1} << 20;

/// Offset and number of the parts that are not UTF-8.
struct BadBytes {
  size_t first = 0, count = 0;
};

BadBytes bad_bytes(std::string_view text) {
  BadBytes bad;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_code_point(text.substr(at));
    if (!c.valid && bad.count++ == 0) bad.first = at;
    at += c.length;
  }
  return bad;
}

/// Numbers of such a text would say nothing, and nobody would notice.
void check_text(std::string_view text, const std::string& path) {
  if (const BadBytes bad = bad_bytes(text); bad.count > 0) {
    throw Error("{}: not UTF-8 text: {} bad sequences, the first at byte {}; convert it (iconv -t UTF-8)",
                path, bad.count, bad.first);
  }
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos)
    throw Error("{}: not UTF-8 text: a NUL at byte {}; convert it (iconv -f UTF-16 -t UTF-8)", path, nul);
}

/// The first `bytes` of `text`, up to the end of a line, or of a character where lines are long.
std::string_view beginning(std::string_view text, size_t bytes) {
  if (bytes >= text.size()) return text;
  if (const size_t line = text.rfind('\n', bytes); line != std::string_view::npos && line > bytes / 2)
    return text.substr(0, line + 1);
  while (bytes > 0 && (text[bytes] & 0xC0) == 0x80) --bytes;
  return text.substr(0, bytes);
}

}  // namespace

std::vector<int32_t> encode_file(const Tokenizer& tokenizer, const std::string& path, int64_t wanted) {
  const MappedFile file(path);
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  if (text.empty()) throw Error("{}: the file is empty", path);
  size_t bytes = wanted > 0 ? std::max(kLeastBytes, static_cast<size_t>(wanted) * kBytesPerId) : text.size();
  for (;; bytes *= 2) {
    const std::string_view part = beginning(text, bytes);
    check_text(part, path);
    std::vector<int32_t> ids = tokenizer.encode(part, /*add_special_tokens=*/true);
    if (part.size() == text.size()) return ids;
    if (std::ssize(ids) < wanted + kMargin) continue;
    ids.resize(static_cast<size_t>(wanted));
    return ids;
  }
}

}  // namespace tessera
