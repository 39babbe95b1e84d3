// SHA-256, for fingerprints of models, texts and options, and of files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace tessera {

/// Incremental SHA-256.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void update(std::span<const std::byte> bytes);
  void update(std::string_view text) { update(std::as_bytes(std::span(text))); }
  /// 64 lower-case hexadecimal digits. One of hex() and base64() may be called, once.
  std::string hex();
  /// 44 characters.
  std::string base64();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

std::string sha256_hex(std::span<const std::byte> bytes);
std::string sha256_hex(std::string_view text);

/// In Base64, as browsers want it.
std::string sha256_base64(std::string_view text);

/// What a file holds, in short.
struct FileDigest {
  uint64_t bytes = 0;
  std::string sha256;

  friend bool operator==(const FileDigest&, const FileDigest&) = default;
};

/// Reads the whole file, a little at a time. Throws Error when it cannot be read.
FileDigest digest_file(const std::filesystem::path& file);

}  // namespace tessera
