// How pages of Parquet files are compressed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tessera::parquet {

/// `codec` as Parquet numbers them. Throws Error when it is none that is read, or the bytes do not unfold to
/// exactly `size` bytes.
std::vector<std::byte> decompress(int64_t codec, std::span<const std::byte> bytes, size_t size);

}  // namespace tessera::parquet
