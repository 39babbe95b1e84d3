// API keys: who may ask.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

/// Who asks: `id` is the same for the same name as long as the program runs.
struct Owner {
  int32_t id = 0;
  std::string name = {};  ///< empty without keys
};

/// Keys, kept as their SHA-256. Any thread may use it.
class Keys {
 public:
  /// Keys given by themselves are named key1, key2, ...; a line of `file` is NAME:KEY, or # and a comment.
  /// Throws Error, naming file and line.
  Keys(const std::vector<std::string>& keys, std::filesystem::path file);

  /// Reads the file once more. When it is broken, throws Error and the keys stay as they were.
  void reload();
  bool empty() const;
  size_t size() const;
  /// The owner of the key in an Authorization header. Throws ApiError 401 when there are keys and the header
  /// holds none of them.
  Owner check(std::string_view authorization) const;

 private:
  int32_t id_of(const std::string& name);

  std::vector<std::string> given_;
  std::filesystem::path file_;
  mutable std::shared_mutex mutex_;
  std::map<std::string, Owner> owners_;  ///< by the key's SHA-256
  std::map<std::string, int32_t> ids_;   ///< by name
};

}  // namespace tessera
