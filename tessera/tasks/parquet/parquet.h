// Rows of a Parquet file as JSON, as data sets are published.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

namespace tessera {

/// Every row as an object with the columns in their order: lists are arrays, structs objects, what is absent
/// null; dates, times, decimals and numbers of fixed length are left out. Throws Error, naming the file and
/// the column, when the file is damaged or uses what is not read (parquet/pages.h).
std::vector<nlohmann::ordered_json> read_parquet(const std::filesystem::path& path);

/// Whether `path` is a file that begins as Parquet files do.
bool is_parquet(const std::filesystem::path& path);

}  // namespace tessera
