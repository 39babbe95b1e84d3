// What a checkpoint holds beyond what its model is made of.
#pragma once

#include <string>

#include "tessera/arch/model_spec.h"

namespace tessera {

/// One line about the tensors that no part of the model reads, such as a bias that config.json does not
/// announce; empty when there are none. Names that differ in their numbers alone are listed once.
std::string unread_tensors(const ModelSpec& spec, const Checkpoint& checkpoint);

}  // namespace tessera
