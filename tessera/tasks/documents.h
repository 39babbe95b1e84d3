// The documents of a data set on disk, as people download them.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tessera {

/// One entry of a data set: an object.
using Document = nlohmann::ordered_json;

/// All documents of a file: Parquet, JSON lines, or one JSON array. Throws Error, naming the file and the
/// line, when it cannot be read or an entry is no object.
std::vector<Document> read_documents(const std::filesystem::path& file);

/// The files below `folder`, in the order of their names, of the first of `splits` that any file has as a
/// word of its name, or of its folder's, ("validation-00000-of-00002.parquet", "hellaswag_val.jsonl"). Throws
/// Error, saying what was looked for, when there is none.
std::vector<std::filesystem::path> split_files(const std::filesystem::path& folder,
                                               const std::vector<std::string>& splits);

}  // namespace tessera
