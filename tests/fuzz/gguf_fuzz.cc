// GGUF files: container, tensors, and the files of a Hugging Face folder that are made of the metadata.
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
  for (const auto& [name, tensor] : checkpoint.tensors()) checkpoint.at(name);
}
