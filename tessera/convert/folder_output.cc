// Shards, config.json, and the files beside them.
#include "tessera/convert/folder_output.h"

#include <future>
#include <utility>

#include "tessera/base/atomic_output.h"
#include "tessera/format/checkpoint_index.h"

namespace tessera {
namespace {

using nlohmann::ordered_json;

/// The tensors of block `layer`; n_layers: those outside the blocks.
std::vector<NamedTensor> block_tensors(const SourceModel& model, const std::vector<LinearOutcome>& outcomes,
                                       int64_t layer) {
  std::vector<NamedTensor> tensors;
  for (const std::string& name : model.float_tensors(layer))
    tensors.push_back({name, model.checkpoint().at(name)});
  for (const LinearOutcome& outcome : outcomes) {
    const SourceModel::Linear& linear = outcome.linear;
    if (linear.layer != layer || !linear.quantized) continue;
    QuantizedLinear loaded = model.load(linear);
    foreign::WrittenLinear written = outcome.writer->write(loaded, model.where(linear), outcome.options);
    for (auto& [last, tensor] : written.tensors)
      tensors.push_back({linear.name + "." + last, share(std::move(tensor))});
    if (!loaded.bias.empty()) tensors.push_back({linear.name + ".bias", share(std::move(loaded.bias))});
  }
  return tensors;
}

bool all_floats_are(DType dtype, const SourceModel& model) {
  for (int64_t layer = 0; layer <= model.spec().n_layers; ++layer) {
    for (const std::string& name : model.float_tensors(layer)) {
      if (model.checkpoint().info(name).dtype != dtype) return false;
    }
  }
  return true;
}

/// What the floats of the target are, for config.json; empty: what they were. Readers cast floats to it, so
/// that a model of floats has the type that holds all of them.
std::string float_type(const SourceModel& model, const foreign::Writer& writer, const std::string& variant) {
  if (std::string_view(writer.name) == "tessera") return {};
  if (variant == "f16" && !all_floats_are(DType::kF16, model)) return "float32";
  if (variant == "bf16" && !all_floats_are(DType::kBF16, model)) return "float32";
  // Scales of 16 bits are float16: readers cast them to the type that config.json names.
  return variant == "f32" ? "float32" : variant == "bf16" ? "bfloat16" : "float16";
}

/// The index of the shards, or for a small model one file in their place.
void finish_shards(AtomicFolder& folder, int64_t shards) {
  if (shard_bytes(folder.partial(), shards) > kOneFileBytes) {
    folder.file(kIndexName);
    write_index(folder.partial(), shards);
    return;
  }
  folder.file(kWeightsName);
  join_shards(folder.partial(), shards);
  for (int64_t i = 0; i < shards; ++i) std::filesystem::remove(folder.file(shard_name(i, shards)));
}

}  // namespace

void write_folder(const SourceModel& model, const std::vector<LinearOutcome>& outcomes,
                  const foreign::Writer& writer, const std::string& variant, const nlohmann::json& section,
                  AtomicFolder& folder, Reporter& reporter) {
  const int64_t layers = model.spec().n_layers;
  std::future<void> writing;  // of a shard, while the next is prepared
  for (int64_t shard = 0; shard <= layers;
       ++shard) {  // what is outside the blocks first, as tessera quantize does
    std::vector<NamedTensor> tensors = block_tensors(model, outcomes, shard == 0 ? layers : shard - 1);
    if (writing.valid()) writing.get();
    writing =
        std::async(std::launch::async, [file = folder.file(shard_name(shard, layers + 1)),
                                        tensors = std::move(tensors)] { write_safetensors(file, tensors); });
    model.checkpoint().release_pages();
    reporter.progress("writing, shards", shard + 1, layers + 1);
  }
  writing.get();
  finish_shards(folder, layers + 1);

  auto config = parse_ordered_json(model.files().read("config.json"), model.config().file());
  config.erase("quantization_config");
  if (make_model_spec(model.config()).tied_embeddings && !model.spec().tied_embeddings)
    config["tie_word_embeddings"] = false;  // as the head that is stored says
  if (!section.is_null()) config["quantization_config"] = section;
  if (const std::string type = float_type(model, writer, variant); !type.empty()) {
    config.erase("dtype");
    config["torch_dtype"] = type;  // the name that every version reads
  }
  write_file(folder.file("config.json"), config.dump(2) + "\n");
  if (writer.own_settings_file) write_file(folder.file("quantize_config.json"), section.dump(2) + "\n");
  for (const std::string& name : model.files().companions())
    write_file(folder.file(name), model.files().read(name));
}

}  // namespace tessera
