// The journal of an unfinished run: which blocks are done, for which model, data and options.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tessera/format/safetensors.h"

namespace tessera {

/// What a run depends on, as name -> text (often a hash); a resumed run must agree in all of it.
using Fingerprint = std::map<std::string, std::string>;

/// SHA-256 over config.json and over names, dtypes, shapes and bytes of all tensors. Everything is hashed,
/// not samples: that reads the checkpoint once, seconds beside hours. Throws Error for a weight that is not
/// finite, so that it ends the run before it has begun.
std::string hash_model(const Checkpoint& checkpoint);

/// journal.json in the folder of an unfinished run, rewritten atomically after each block. Blocks finish in
/// order.
class Journal {
 public:
  static constexpr const char* kFileName = "journal.json";

  /// An empty journal, written at once.
  static Journal start(const std::filesystem::path& dir, const Fingerprint& fingerprint);
  /// Throws Error when the journal is absent or damaged, or saying which part of the fingerprint differs.
  static Journal resume(const std::filesystem::path& dir, const Fingerprint& fingerprint);

  int64_t finished_blocks() const { return static_cast<int64_t>(blocks_.size()); }
  /// The reports of the finished blocks.
  const nlohmann::json& blocks() const { return blocks_; }
  /// Records blocks that finished together, all or none.
  void append(std::vector<nlohmann::json> reports);
  /// Removes the file.
  void remove();

 private:
  Journal(std::filesystem::path file, Fingerprint fingerprint, nlohmann::json blocks)
      : file_(std::move(file)), fingerprint_(std::move(fingerprint)), blocks_(std::move(blocks)) {}
  void write() const;

  std::filesystem::path file_;
  Fingerprint fingerprint_;
  nlohmann::json blocks_;
};

}  // namespace tessera
