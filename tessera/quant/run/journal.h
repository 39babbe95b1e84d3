// The journal of an unfinished run: which blocks are done, for which model, data and options.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "tessera/format/checkpoint.h"

namespace tessera {

/// What a run depends on, as name -> text (often a hash); a resumed run must agree in all of it.
using Fingerprint = std::map<std::string, std::string>;

/// SHA-256 over config.json and over names, dtypes, shapes and bytes of all tensors. Everything is hashed,
/// not samples: that reads the checkpoint once, seconds beside hours. Throws Error for a weight that is not
/// finite, so that it ends the run before it has begun.
std::string hash_model(const Checkpoint& checkpoint);

/// journal.json in the folder of an unfinished run, rewritten atomically after each block. Blocks finish in
/// order. It knows the files that a resumed run relies on, by size and SHA-256.
class Journal {
 public:
  /// An empty journal, written at once. `files`: names of all files that the run may leave in the folder.
  static Journal start(const std::filesystem::path& dir, const Fingerprint& fingerprint,
                       std::set<std::string> files);
  /// Throws Error when the journal is absent or damaged, when a file is missing or has changed, or saying
  /// which part of the fingerprint differs.
  static Journal resume(const std::filesystem::path& dir, const Fingerprint& fingerprint,
                        const std::set<std::string>& files);

  int64_t finished_blocks() const { return static_cast<int64_t>(blocks_.size()); }
  /// The reports of the finished blocks.
  const nlohmann::json& blocks() const { return blocks_; }
  const std::set<std::string>& files() const { return files_; }
  /// The files that a resumed run relies on.
  const std::map<std::string, FileDigest>& kept() const { return kept_; }

  /// From the next write() or append() on a resumed run relies on this file, or no longer does.
  void keep(const std::string& name, FileDigest digest) { kept_[name] = std::move(digest); }
  void forget(const std::string& name) { kept_.erase(name); }
  /// Records blocks that finished together, all or none.
  void append(std::vector<nlohmann::json> reports);
  /// What passes made of the whole model; null until they have run.
  const nlohmann::json& whole_model() const { return whole_model_; }
  void set_whole_model(nlohmann::json report) { whole_model_ = std::move(report); }
  void write() const;

 private:
  Journal(std::filesystem::path dir, Fingerprint fingerprint, std::set<std::string> files)
      : dir_(std::move(dir)), fingerprint_(std::move(fingerprint)), files_(std::move(files)) {}
  void read(const nlohmann::json& value);
  void check_kept() const;

  std::filesystem::path dir_;
  Fingerprint fingerprint_;
  std::set<std::string> files_;
  std::map<std::string, FileDigest> kept_;
  nlohmann::json whole_model_;
  nlohmann::json blocks_ = nlohmann::json::array();
};

}  // namespace tessera
