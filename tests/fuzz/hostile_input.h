// What a fuzz target is: a function that reads a stranger's bytes.
#pragma once

#include <filesystem>
#include <string_view>

namespace tessera {

/// Each target defines it once: reads `input` as the program reads such a file or request. tessera::Error is
/// the way to refuse it; any other exception that leaves it, and any crash, is a find.
void read_hostile_input(std::string_view input);

/// A file of this content, for readers that want a path; it is the same file at every call, and lives in
/// memory.
std::filesystem::path file_of(std::string_view content);

}  // namespace tessera
