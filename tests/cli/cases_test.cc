// Checkpoints as people have them: what Transformers loads means the same model here, and what is left out is
// said.
#include <cmath>
#include <cstring>
#include <map>

#include "tests/cli/cli_fixture.h"

namespace tessera {
namespace {

class Cases : public Cli {
 protected:
  using Tensors = std::vector<NamedTensor>;

  Tensors demo_tensors() const {
    Tensors tensors;
    for (const auto& [name, view] : demo_.tensors()) tensors.push_back({name, view});
    return tensors;
  }
  /// The bundled model with other weight files.
  fs::path with_files(const std::map<std::string, Tensors>& files) {
    const fs::path model = copy_model();
    fs::remove(model / "model.safetensors");
    for (const auto& [name, tensors] : files) write_safetensors(model / name, tensors);
    return model;
  }
  Outcome perplexity(const fs::path& model, const std::string& more = "") {
    return run(fmt::format("--json perplexity {} --text {} --window 64 --max-windows 2 {}", model.string(),
                           text().string(), more));
  }
  /// NaN when the command fails.
  double value_of(const Outcome& o) {
    EXPECT_EQ(o.status, 0) << o.err;
    return o.status == 0 ? json::parse(o.out)[0]["perplexity"].get<double>() : std::nan("");
  }
  double value(const fs::path& model) { return value_of(perplexity(model)); }

  const SafetensorsFile demo_{kDemo / "model.safetensors"};
};

TEST_F(Cases, WeightFilesThatTransformersTakes) {
  const double same = value(kDemo);
  const Tensors all = demo_tensors();
  const Tensors first(all.begin(), all.begin() + 20), second(all.begin() + 20, all.end());
  EXPECT_EQ(value(with_files(
                {{"model-00001-of-00002.safetensors", first}, {"model-00002-of-00002.safetensors", second}})),
            same)
      << "without an index";

  const fs::path stale = copy_model();
  write_file(stale / "model.safetensors.index.json",
             R"({"weight_map": {"x": "model-00001-of-00002.safetensors"}})");
  EXPECT_EQ(value(stale), same) << "an index of files that are gone";

  const fs::path odd = copy_model();
  std::string bytes = read_file(odd / "model.safetensors");
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  bytes.insert(8 + header, " ");
  ++header;
  std::memcpy(bytes.data(), &header, 8);
  write_file(odd / "model.safetensors", bytes);
  EXPECT_EQ(value(odd), same) << "tensors that are not aligned";
}

TEST_F(Cases, ConfigurationsThatLeaveDefaultsOut) {
  const double same = value(kDemo);
  const auto edited = [&](const std::function<void(json&)>& edit) {
    const fs::path model = copy_model();
    edit_config(model, edit);
    return model;
  };
  EXPECT_EQ(value(edited([](json& c) { c.erase("architectures"); })), same);
  EXPECT_EQ(value(edited([](json& c) { c["architectures"] = {"LlamaModel"}; })), same);
  EXPECT_EQ(value(edited([](json& c) { c.erase("max_position_embeddings"); })), same);
  const fs::path numbers = copy_model();
  std::string config = read_file(numbers / "config.json");
  config.insert(config.find('{') + 1, "\"router_jitter\": NaN, \"limit\": [Infinity, -Infinity],");
  write_file(numbers / "config.json", config);
  write_file(numbers / "generation_config.json", "");
  EXPECT_EQ(value(numbers), same);
  write_file(numbers / "config.json", [&] {
    std::string text = config;
    const size_t at = text.find("\"rms_norm_eps\":");
    return text.replace(at, text.find(',', at) - at, "\"rms_norm_eps\": NaN");
  }());
  expect_refusal(fmt::format("generate {} --prompt x", numbers.string()), {"config.json", "rms_norm_eps"});
}

/// A head that is stored counts, whatever config.json says about tied embeddings.
TEST_F(Cases, TiedEmbeddings) {
  const double same = value(kDemo);
  ASSERT_TRUE(json::parse(read_file(kDemo / "config.json"))["tie_word_embeddings"])
      << "the test is written for it";
  const TensorView embedding = demo_.tensors().at("model.embed_tokens.weight");
  Tensors equal = demo_tensors();
  equal.push_back({"lm_head.weight", embedding});
  EXPECT_EQ(value(with_files({{"model.safetensors", equal}})), same);
  Tensors alone = demo_tensors();
  for (auto& [name, view] : alone) {
    if (name == "model.embed_tokens.weight") name = "lm_head.weight";
  }
  EXPECT_EQ(value(with_files({{"model.safetensors", alone}})), same);
  Tensor head(embedding);
  for (BFloat16& x : head.as<BFloat16>()) x = to_bfloat16(2 * to_float(x));
  Tensors other = demo_tensors();
  other.push_back({"lm_head.weight", head.view()});
  const fs::path model = with_files({{"model.safetensors", other}});
  const double tied = value(model);
  EXPECT_NE(tied, same);
  edit_config(model, [](json& c) { c["tie_word_embeddings"] = false; });
  EXPECT_EQ(value(model), tied) << "what the stored head gives";
}

TEST_F(Cases, WhatNoLayerReadsIsListed) {
  const double same = value(kDemo);
  const Tensor bias(DType::kF32, {256});
  Tensors tensors = demo_tensors();
  tensors.push_back({"model.layers.2.self_attn.q_proj.bias", bias.view()});
  const Outcome o = perplexity(with_files({{"model.safetensors", tensors}}));
  EXPECT_EQ(value_of(o), same);
  EXPECT_NE(o.err.find("no part of this model: model.layers.*.self_attn.q_proj.bias"), std::string::npos)
      << o.err;
  EXPECT_EQ(perplexity(kDemo).err.find("no part"), std::string::npos);
}

TEST_F(Cases, TextsThatAreNotUtf8AreRefused) {
  std::string latin = read_file(text());
  latin[100] = '\xe9';
  write_file(dir_ / "latin1.txt", latin);
  std::string wide;
  for (const char c : latin) wide += {c, '\0'};
  write_file(dir_ / "utf16.txt", wide);
  for (const char* file : {"latin1.txt", "utf16.txt"}) {
    expect_refusal(fmt::format("perplexity {} --text {}", kDemo.string(), (dir_ / file).string()),
                   {file, "not UTF-8"});
  }
}

/// A pipe may never end.
TEST_F(Cases, OnlyRegularFilesAreRead) {
  const std::string fifo = (dir_ / "fifo").string();
  ASSERT_EQ(std::system(("mkfifo " + fifo).c_str()), 0);
  for (const std::string& file : {fifo, std::string("/dev/zero")}) {
    expect_refusal(fmt::format("perplexity {} --text {}", kDemo.string(), file), {"not a regular file"});
    expect_refusal(fmt::format("generate {} --prompt x --chat --template {}", kDemo.string(), file),
                   {"not a regular file"});
  }
  expect_refusal("inspect " + fifo, {"fifo"});
  expect_refusal(fmt::format("generate {} --prompt x", fifo), {"fifo"});
  const fs::path model = copy_model();
  fs::remove(model / "model.safetensors");
  fs::rename(fifo, model / "model.safetensors");
  expect_refusal(fmt::format("generate {} --prompt x", model.string()),
                 {"model.safetensors", "not a regular file"});
}

/// llama.cpp puts a BOS into its windows where the tokenizer adds one.
TEST_F(Cases, WindowsHaveABosWhereTheTokenizerAddsOne) {
  const fs::path model = copy_model();
  const Outcome with = perplexity(model, "--protocol llama.cpp");
  json tokenizer = json::parse(read_file(model / "tokenizer.json"));
  tokenizer["post_processor"] = nullptr;
  write_file(model / "tokenizer.json", tokenizer.dump());
  const Outcome without = perplexity(model, "--protocol llama.cpp");
  EXPECT_NE(value_of(without), value_of(with));
  EXPECT_EQ(json::parse(with.out)[0]["bos"], "BOS in every window");
  EXPECT_EQ(json::parse(without.out)[0]["bos"], "no BOS");
  EXPECT_EQ(json::parse(perplexity(model).out)[0]["bos"], "no BOS");
}

}  // namespace
}  // namespace tessera
