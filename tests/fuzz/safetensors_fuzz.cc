// Weights in safetensors: every byte that the reader hands out must be there.
#include "hostile_input.h"
#include "tessera/base/hash.h"
#include "tessera/format/safetensors.h"

void tessera::read_hostile_input(std::string_view input) {
  const SafetensorsFile file(file_of(input));
  for (const auto& [name, stored] : file.tensors()) {
    const TensorView tensor = file.at(name);
    sha256_hex({reinterpret_cast<const char*>(tensor.data), tensor.bytes()});  // reads them all
  }
}
