// The pages of a column of a Parquet file: decompression, levels, values.
//
// Source: the Apache Parquet format, README.md and Encodings.md. Read are PLAIN, RLE and dictionary
// encodings, data pages of both versions, without compression or with Snappy, gzip or Zstandard: what
// PyArrow, DuckDB and Spark write by default.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "tessera/tasks/parquet/thrift.h"

namespace tessera::parquet {

using Json = nlohmann::ordered_json;

/// Highest levels of a column: how many repeated, and how many optional or repeated fields lead to it.
struct Levels {
  int repetition = 0, definition = 0;
};

/// What a column of a row group holds: a pair of levels for every slot, and a value for each slot that is
/// defined, that is, whose definition level is the highest.
struct Column {
  std::vector<uint32_t> repetition, definition;  ///< zeros where a field cannot repeat or be absent
  std::vector<Json> values;                      ///< booleans, integers, floats, texts (valid UTF-8)
};

/// How the numbers of a column are meant.
enum class ValueKind : uint8_t {
  kSigned,
  kUnsigned,
  kUnread  ///< dates, decimals and the like: null in place of each
};

/// Reads a column; `metadata` is its ColumnMetaData, `file` the bytes of the whole file. Throws Error when
/// pages lie outside of the file, contradict their headers, use an encoding or compression that is not read,
/// or unfold to more than 1 GB or 50 million slots.
Column read_column(std::span<const std::byte> file, const ThriftValue& metadata, Levels most, ValueKind kind);

}  // namespace tessera::parquet
