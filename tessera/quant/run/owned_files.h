// Which entries of an output folder Tessera wrote. It removes no others, whatever the options say.
#pragma once

#include <filesystem>
#include <functional>
#include <set>
#include <string>

#include "tessera/base/file_lock.h"

namespace tessera {

// Entries of an unfinished run that its checkpoint does not have; the lock (kLockName) is another.
constexpr const char* kJournalName = "journal.json";
constexpr const char* kCalibrationName = "calibration.safetensors";  ///< sampled token ids
constexpr const char* kReplacedName =
    "replaced";  ///< the checkpoint that the run replaces, in its last moments
constexpr const char* kVectorsName = "trained.safetensors";  ///< what training changed, until shards have it
/// "streams-00003.safetensors"
std::string streams_name(int64_t finished_blocks);
/// "untrained-00004-of-00009.safetensors": a shard of which training is to change vectors.
std::string untrained_name(int64_t index, int64_t shards);

constexpr const char* kReportName = "report.json";

/// True for the names above but the report's.
bool is_working_name(const std::string& name);

/// The files of the checkpoint that the journal or the report in `dir` lists, by their names; empty when
/// Tessera wrote neither.
std::set<std::string> listed_files(const std::filesystem::path& dir);

/// Name of an entry of `dir` that Tessera did not write; empty when there is none.
std::string foreign_entry(const std::filesystem::path& dir);

/// Removes the entries that Tessera wrote and that `chosen` accepts by their names. Those that say what
/// belongs to Tessera go last, so that an interruption leaves no orphans.
void remove_owned(const std::filesystem::path& dir, const std::function<bool(const std::string&)>& chosen);

}  // namespace tessera
