// Options of a pass: its defaults, overridden by the recipe's step.
#pragma once

#include <initializer_list>
#include <utility>

#include "tessera/base/error.h"
#include "tessera/quant/pass.h"

namespace tessera {

class PassOptions {
 public:
  /// Throws Error naming the pass for an unknown option or a value of another type than the default's.
  PassOptions(const PassInfo& info, const nlohmann::json& step);

  template <class T>
  T get(const char* key) const {
    return values_.at(key).get<T>();
  }
  /// A number in [lo, hi]; throws Error otherwise.
  template <class T>
  T in_range(const char* key, T lo, T hi) const {
    const T value = get<T>(key);
    if (!(value >= lo && value <= hi)) {
      throw Error("pass '{}': option '{}' = {} is outside {}..{}", pass_, key, value, lo, hi);
    }
    return value;
  }
  /// The value that the string stands for; throws Error listing the choices.
  template <class T>
  T choice(const char* key, std::initializer_list<std::pair<const char*, T>> choices) const {
    const auto text = get<std::string>(key);
    std::string known;
    for (const auto& [name, value] : choices) {
      if (text == name) return value;
      known += (known.empty() ? "" : ", ") + std::string(name);
    }
    throw Error("pass '{}': option '{}' = '{}' is not one of {}", pass_, key, text, known);
  }

 private:
  std::string pass_;
  nlohmann::json values_;
};

}  // namespace tessera
