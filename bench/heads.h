// The heads of a layer that the attention benchmarks of both devices time.
#pragma once

#include <cstdio>
#include <string>

#include "tessera/base/error.h"

namespace tessera {

struct Heads {
  int n, key_heads, dimensions;
};

/// Throws Error unless `text` is HEADSxKEY_HEADSxDIMENSIONS with as many heads for every key head.
inline Heads heads_from_text(const std::string& text) {
  Heads heads;
  char rest;
  if (std::sscanf(text.c_str(), "%dx%dx%d%c", &heads.n, &heads.key_heads, &heads.dimensions, &rest) != 3 ||
      heads.n < 1 || heads.key_heads < 1 || heads.n % heads.key_heads != 0 || heads.dimensions < 2) {
    throw Error("'{}' is no HEADSxKEY_HEADSxDIMENSIONS, as 32x4x64", text);
  }
  return heads;
}

}  // namespace tessera
