// Telling our files from those of others.
#include "tessera/quant/run/owned_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "tessera/base/atomic_output.h"

namespace tessera {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

/// In the order of their removal.
constexpr std::array kNamesOfOwners = {kReportName, kJournalName, kLockName};

/// Entries of `dir` that are ours, given the files that it lists. A file being written has a suffix.
bool is_owned(const fs::directory_entry& entry, const std::set<std::string>& listed) {
  std::string name = entry.path().filename().string();
  if (name == kReplacedName) return entry.is_directory() && !entry.is_symlink();
  if (entry.is_directory()) return false;
  if (name.ends_with(".partial")) name.resize(name.size() - std::string_view(".partial").size());
  return is_working_name(name) || listed.contains(name);
}

size_t removal_order(const std::string& name) {
  return static_cast<size_t>(std::ranges::find(kNamesOfOwners, name) - kNamesOfOwners.begin() + 1) %
         (kNamesOfOwners.size() + 1);
}

}  // namespace

std::string streams_name(int64_t finished_blocks) {
  return fmt::format("streams-{:05}.safetensors", finished_blocks);
}

std::string untrained_name(int64_t index, int64_t shards) {
  return fmt::format("untrained-{:05}-of-{:05}.safetensors", index + 1, shards);
}

bool is_working_name(const std::string& name) {
  return name == kLockName || name == kJournalName || name == kCalibrationName || name == kReplacedName ||
         name == kVectorsName ||
         ((name.starts_with("streams-") || name.starts_with("untrained-")) && name.ends_with(".safetensors"));
}

std::set<std::string> listed_files(const fs::path& dir) {
  std::set<std::string> names;
  for (const char* list : {kJournalName, kReportName}) {
    if (!fs::is_regular_file(dir / list)) continue;
    const json value = json::parse(read_file(dir / list), nullptr, /*allow_exceptions=*/false);
    if (!value.is_object() || !value.contains("files")) continue;
    for (const json& name : value["files"]) {
      if (name.is_string()) names.insert(name.get<std::string>());
    }
  }
  return names;
}

std::string foreign_entry(const fs::path& dir) {
  const std::set<std::string> listed = listed_files(dir);
  for (const auto& entry : fs::directory_iterator(dir)) {
    if (!is_owned(entry, listed)) return entry.path().filename().string();
  }
  return "";
}

void remove_owned(const fs::path& dir, const std::function<bool(const std::string&)>& chosen) {
  const std::set<std::string> listed = listed_files(dir);
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(dir)) {
    const std::string name = entry.path().filename().string();
    if (is_owned(entry, listed) && chosen(name)) names.push_back(name);
  }
  std::ranges::stable_sort(names, {}, removal_order);
  for (const std::string& name : names) {
    if (name == kReplacedName) remove_owned(dir / name, [](const std::string&) { return true; });
    fs::remove(dir / name);
  }
}

}  // namespace tessera
