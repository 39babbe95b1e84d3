// Keys.
#include "tessera/server/keys.h"

#include <mutex>
#include <sstream>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"
#include "tessera/base/hash.h"
#include "tessera/server/api_error.h"

namespace tessera {
namespace {

/// Takes as long wherever the two differ.
bool same_digest(std::string_view a, std::string_view b) {
  unsigned different = 0;
  for (size_t i = 0; i < a.size(); ++i) different |= static_cast<unsigned>(a[i] ^ b[i]);
  return different == 0;
}

}  // namespace

Keys::Keys(const std::vector<std::string>& keys, std::filesystem::path file)
    : given_(keys), file_(std::move(file)) {
  reload();
}

void Keys::reload() {
  std::vector<std::pair<std::string, std::string>> named;  // name, key
  for (const std::string& key : given_) {
    if (key.empty()) throw Error("an API key is empty; give one, or none at all");
    named.emplace_back(fmt::format("key{}", named.size() + 1), key);
  }
  if (!file_.empty()) {
    std::istringstream lines(read_file(file_));
    int number = 0;
    for (std::string line; std::getline(lines, line);) {
      ++number;
      if (line.empty() || line.front() == '#') continue;
      const size_t colon = line.find(':');
      if (colon == std::string::npos || colon == 0 || colon + 1 == line.size()) {
        throw Error("{}:{}: expected NAME:KEY", file_.string(), number);
      }
      named.emplace_back(line.substr(0, colon), line.substr(colon + 1));
    }
    if (named.empty()) throw Error("{}: no keys; write lines of NAME:KEY", file_.string());
  }
  const std::unique_lock lock(mutex_);
  owners_.clear();
  for (const auto& [name, key] : named) owners_[sha256_hex(key)] = {id_of(name), name};
}

int32_t Keys::id_of(const std::string& name) {
  return ids_.try_emplace(name, static_cast<int32_t>(ids_.size()) + 1).first->second;
}

bool Keys::empty() const {
  return size() == 0;
}

size_t Keys::size() const {
  const std::shared_lock lock(mutex_);
  return owners_.size();
}

Owner Keys::check(std::string_view authorization) const {
  const std::shared_lock lock(mutex_);
  if (owners_.empty()) return {};
  constexpr std::string_view kScheme = "Bearer ";
  if (authorization.starts_with(kScheme)) {
    const std::string digest = sha256_hex(authorization.substr(kScheme.size()));
    const Owner* owner = nullptr;
    for (const auto& [known, candidate] : owners_) {
      if (same_digest(known, digest)) owner = &candidate;
    }
    if (owner != nullptr) return *owner;
  }
  throw ApiError(401, "authentication_error", "invalid_api_key",
                 authorization.empty()
                     ? "no API key: send the header Authorization: Bearer KEY (lm-eval takes "
                       "OPENAI_API_KEY and, for its tokenizer calls, auth_token=KEY)"
                     : "the API key is not known");
}

}  // namespace tessera
