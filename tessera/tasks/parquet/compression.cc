// Snappy, gzip and Zstandard through their libraries.
#include "tessera/tasks/parquet/compression.h"

#include <snappy.h>
#include <zlib.h>
#include <zstd.h>

#include <optional>
#include <utility>

#include "tessera/base/error.h"

namespace tessera::parquet {
namespace {

enum Codec : int64_t { kNone = 0, kSnappy = 1, kGzip = 2, kZstd = 6 };

using Bytes = std::span<const std::byte>;

// Each judges `size` by what the bytes can unfold to before memory is taken for it. Nothing: the bytes do not
// unfold to it.

std::optional<std::vector<std::byte>> unfold_snappy(Bytes bytes, size_t size) {
  const auto* in = reinterpret_cast<const char*>(bytes.data());
  size_t stated = 0;
  if (!snappy::GetUncompressedLength(in, bytes.size(), &stated) || stated != size) return std::nullopt;
  std::vector<std::byte> out(size);
  if (!snappy::RawUncompress(in, bytes.size(), reinterpret_cast<char*>(out.data()))) return std::nullopt;
  return out;
}

std::optional<std::vector<std::byte>> unfold_gzip(Bytes bytes, size_t size) {
  constexpr int kGzipOrZlib = 15 + 32;
  constexpr size_t kHighestRatio = 1032;  // of deflate
  if (size / kHighestRatio > bytes.size()) return std::nullopt;
  std::vector<std::byte> out(size);
  z_stream stream{};
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  if (inflateInit2(&stream, kGzipOrZlib) != Z_OK) return std::nullopt;
  const int status = inflate(&stream, Z_FINISH);
  inflateEnd(&stream);
  if (status != Z_STREAM_END || stream.total_out != size) return std::nullopt;
  return out;
}

std::optional<std::vector<std::byte>> unfold_zstd(Bytes bytes, size_t size) {
  constexpr size_t kMostUnstated = 64 << 20;  // where the frame does not say how long it is
  const auto stated = ZSTD_getFrameContentSize(bytes.data(), bytes.size());
  if (stated == ZSTD_CONTENTSIZE_UNKNOWN ? size > kMostUnstated : stated != size) return std::nullopt;
  std::vector<std::byte> out(size);
  if (ZSTD_decompress(out.data(), size, bytes.data(), bytes.size()) != size) return std::nullopt;
  return out;
}

std::optional<std::vector<std::byte>> unfold(int64_t codec, Bytes bytes, size_t size) {
  switch (codec) {
    case kNone:
      if (bytes.size() != size) return std::nullopt;
      return std::vector<std::byte>(bytes.begin(), bytes.end());
    case kSnappy:
      return unfold_snappy(bytes, size);
    case kGzip:
      return unfold_gzip(bytes, size);
    case kZstd:
      return unfold_zstd(bytes, size);
    default:
      throw Error("compression {} of Parquet is not read; write the file with Snappy, gzip or Zstandard",
                  codec);
  }
}

}  // namespace

std::vector<std::byte> decompress(int64_t codec, std::span<const std::byte> bytes, size_t size) {
  if (size == 0) return {};
  if (auto out = unfold(codec, bytes, size)) return std::move(*out);
  throw Error("a page is damaged: it does not unfold to the {} bytes of its header", size);
}

}  // namespace tessera::parquet
