// What an action says when it fails. Test code only.
#pragma once

#include <string>

#include "tessera/base/error.h"

namespace tessera {

/// The message of the Error that `action` throws; empty when it throws none.
template <class Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace tessera
