// Tests of what is told about tensors that no part of a model reads.
#include "tessera/arch/unread_tensors.h"

#include <gtest/gtest.h>

#include "tessera/format/safetensors.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

std::string unread_of(const fs::path& dir) {
  const Checkpoint checkpoint(dir);
  return unread_tensors(make_model_spec(ModelConfig::load(dir), checkpoint), checkpoint);
}

TEST(UnreadTensors, NothingIsSaidOfWholeModels) {
  const fs::path golden = fs::path(TESSERA_SOURCE_DIR) / "tests" / "golden";
  for (const char* model : {"mistral", "opt", "qwen2", "qwen3", "qwen3-mixed", "falcon-7b", "falcon-40b",
                            "falcon-sequential", "bloom"}) {
    EXPECT_EQ(unread_of(golden / model), "") << model;
  }
}

TEST(UnreadTensors, AreListedByPattern) {
  const fs::path source = fs::path(TESSERA_SOURCE_DIR) / "tests" / "golden" / "mistral",
                 dir = fs::path(testing::TempDir()) / "unread_tensors";
  fs::create_directories(dir);
  fs::copy_file(source / "config.json", dir / "config.json", fs::copy_options::overwrite_existing);
  const Checkpoint checkpoint(source);
  const Tensor extra(DType::kF32, {4});
  std::vector<NamedTensor> tensors;
  for (const auto& [name, info] : checkpoint.tensors()) tensors.push_back({name, checkpoint.at(name)});
  for (const char* name : {"model.layers.0.self_attn.q_proj.bias", "model.layers.1.self_attn.q_proj.bias",
                           "model.layers.7.self_attn.q_proj.weight", "visual.head"}) {
    tensors.push_back({name, extra.view()});
  }
  write_safetensors(dir / "model.safetensors", tensors);
  EXPECT_EQ(unread_of(dir),
            dir.string() +
                ": stored, but no part of this model: model.layers.*.self_attn.q_proj.bias (2 "
                "tensors), model.layers.*.self_attn.q_proj.weight, visual.head");
  fs::remove_all(dir);
}

}  // namespace
}  // namespace tessera
