// GGUF files: container, tensors, codes, and the files of a Hugging Face folder that are made of the
// metadata.
#include "hostile_input.h"
#include "tessera/format/checkpoint.h"
#include "tessera/source/model_files.h"

void tessera::read_hostile_input(std::string_view input) {
  const std::filesystem::path path = file_of(input);
  const ModelFiles files(path);
  for (const std::string& name : files.names()) {
    try {
      files.read(name);
    } catch (const Error&) {
    }
  }
  const Checkpoint checkpoint(path);
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    const std::string linear = name.substr(0, name.rfind('.'));
    if (checkpoint.has_gguf_codes(linear)) checkpoint.gguf_codes(linear);
    checkpoint.at(name);
  }
}
