// The files of a model beside its weights.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>

namespace tessera {

/// Throws Error when `path` is neither a folder nor a GGUF file.
void require_model(const std::filesystem::path& path);

/// config.json, tokenizer.json and their like: those of a Hugging Face folder, or the same files made from
/// the metadata of a GGUF file, so that everything behind this class sees a folder.
class ModelFiles {
 public:
  /// Throws Error as require_model does, and when a GGUF file is malformed or its architecture is not known.
  explicit ModelFiles(const std::filesystem::path& path);

  bool contains(std::string_view name) const { return files_.contains(name); }
  std::set<std::string> names() const;
  /// Names of what a model that is made of this one takes over as it is: tokenizer, templates, generation
  /// settings. Not config.json, weights in any container with their indexes, settings and records of how the
  /// weights were made, hidden files, golden values.
  std::set<std::string> companions() const;
  /// The content. The file must be there. Throws Error when it cannot be read, or cannot be made because the
  /// GGUF file holds what has no counterpart.
  std::string read(std::string_view name) const;
  /// The same, parsed.
  nlohmann::json json(std::string_view name) const;
  /// How messages call a file, there or not: "FOLDER/config.json", "model.gguf: config.json".
  std::string where(std::string_view name) const;

 private:
  std::filesystem::path path_;
  std::map<std::string, std::function<std::string()>, std::less<>> files_;  ///< makes or reads the content
};

}  // namespace tessera
