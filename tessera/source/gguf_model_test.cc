// GGUF models as Hugging Face checkpoints: names, order of rows, decoding, split files, config.json.
#include "tessera/source/gguf_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <limits>

#include "tessera/base/error.h"
#include "tessera/source/model_files.h"
#include "tessera/source/test_gguf_model.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

class GgufModels : public testing::Test {
 protected:
  GgufModels() { fs::create_directories(dir_); }
  ~GgufModels() override { fs::remove_all(dir_); }

  GgufModel open(const GgufBuilder& file) const {
    file.write(path_);
    return GgufModel(path_);
  }
  json config(const GgufBuilder& file) const {
    file.write(path_);
    return ModelFiles(path_).json("config.json");
  }
  template <class Action>
  static std::string error_of(const Action& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  std::string refusal(const GgufBuilder& file) const {
    return error_of([&] { config(file); });
  }

  const fs::path dir_ = fs::temp_directory_path() / fmt::format("tessera_gguf_model_{}", ::getpid());
  const fs::path path_ = dir_ / "model.gguf";
};

TEST_F(GgufModels, TensorsHaveTheNamesOfHuggingFace) {
  std::vector<std::string> names;
  const GgufModel model = open(TestGgufLlama().file);
  for (const auto& [name, info] : model.tensors()) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{
                       "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight",
                       "model.layers.0.mlp.down_proj.weight", "model.layers.0.mlp.gate_proj.weight",
                       "model.layers.0.mlp.up_proj.weight", "model.layers.0.post_attention_layernorm.weight",
                       "model.layers.0.self_attn.k_proj.weight", "model.layers.0.self_attn.o_proj.weight",
                       "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.v_proj.weight",
                       "model.norm.weight"}));
  EXPECT_EQ(model.tensors().at("model.layers.0.mlp.down_proj.weight").shape, (Shape{32, 64}));
}

/// Row i of a tensor whose rows are numbered holds i.
std::vector<float> numbered_rows(int64_t rows, int64_t width) {
  std::vector<float> values;
  for (int64_t i = 0; i < rows * width; ++i) values.push_back(static_cast<float>(i / width));
  return values;
}

TEST_F(GgufModels, HalvesOfHeadsStandApartAgain) {
  // One head of 8 rows: the file holds 0, 4, 1, 5, ... of Hugging Face's order.
  const auto rows_of = [&](const char* architecture, const char* tensor, const char* name,
                           const Shape& shape) {
    GgufBuilder b;
    b.set("general.architecture", architecture).set("llama.attention.head_count", uint32_t{2});
    b.set("llama.attention.head_count_kv", uint32_t{1});
    const int64_t width = shape.size() == 2 ? shape[1] : 1;
    b.add_floats(tensor, shape, numbered_rows(shape[0], width));
    const GgufModel model = open(b);
    const std::vector<float> values = to_floats(model.read(name));
    std::vector<int> rows;
    for (size_t i = 0; i < values.size(); i += static_cast<size_t>(width))
      rows.push_back(static_cast<int>(values[i]));
    return rows;
  };
  const std::vector<int> two_heads = {0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15},
                         one_head = {0, 2, 4, 6, 1, 3, 5, 7}, in_order = {0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(rows_of("llama", "blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight", {16, 3}),
            two_heads);
  EXPECT_EQ(rows_of("llama", "blk.0.attn_q.bias", "model.layers.0.self_attn.q_proj.bias", {16}), two_heads);
  EXPECT_EQ(rows_of("llama", "blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj.weight", {8, 3}),
            one_head);
  EXPECT_EQ(rows_of("llama", "blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj.weight", {8, 3}),
            in_order);
  EXPECT_EQ(rows_of("qwen2", "blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj.weight", {8, 3}),
            in_order);
  EXPECT_THAT(error_of([&] {
                rows_of("llama", "blk.0.attn_q.weight", "", {6, 3});
              }),
              HasSubstr("6 rows are no 2 heads"));
}

TEST_F(GgufModels, PlainFloatsAreViewsAndBlocksBecomeHalves) {
  const GgufModel model = open(TestGgufLlama("llama", 8).file);
  const std::string o = "model.layers.0.self_attn.o_proj.weight",
                    q = "model.layers.0.self_attn.q_proj.weight";
  EXPECT_FALSE(model.read("model.norm.weight").owner);
  EXPECT_EQ(model.tensors().at(o).dtype, DType::kF16);
  const TensorView view = model.read(o);
  EXPECT_TRUE(view.owner);
  EXPECT_EQ(view.dtype, DType::kF16);
  EXPECT_EQ(model.stored_formats(), (std::map<std::string, int64_t>{{"F32", 4}, {"Q8_0", 7}}));
  const GgufFile file(path_);
  const auto rounded = [&](const char* name) {
    const GgufTensor& tensor = file.tensors().at(name);
    std::vector<float> values(static_cast<size_t>(element_count(tensor.shape)));
    decode_blocks(*tensor.format, tensor.data, values);
    for (float& v : values) v = to_float(to_half(v));
    return values;
  };
  EXPECT_EQ(to_floats(view), rounded("blk.0.attn_output.weight"));
  // Rows of blocks move whole.
  const std::vector<float> stored = rounded("blk.0.attn_q.weight"), read = to_floats(model.read(q));
  EXPECT_TRUE(std::equal(read.begin() + 32, read.begin() + 64, stored.begin() + 64));
}

TEST_F(GgufModels, CodesOfBlocksStandInTheOrderOfTheFloats) {
  TestGgufLlama llama("llama", 2);
  llama.file.add("output.weight", {12, 32}, 2, std::string(std::size_t{12} * 18, 'x'));
  const GgufModel model = open(llama.file);
  EXPECT_TRUE(model.any_codes());
  EXPECT_FALSE(model.has_codes("lm_head.weight"));
  EXPECT_FALSE(model.has_codes("model.norm.weight"));
  EXPECT_FALSE(model.has_codes("model.layers.9.mlp.up_proj.weight"));
  for (const char* linear : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj"}) {
    const std::string name = fmt::format("model.layers.0.{}.weight", linear);
    ASSERT_TRUE(model.has_codes(name));
    const GgufCodes codes = model.codes(name);
    EXPECT_EQ((Shape{codes.n, codes.k}), model.tensors().at(name).shape);
    std::vector<float> values;
    for (size_t i = 0; i < codes.codes.size(); ++i)
      values.push_back(to_float(to_half(to_float(codes.scales[i / kQ4_0Group]) * (codes.codes[i] - 8.0f))));
    EXPECT_EQ(values, to_floats(model.read(name))) << name;
  }
  EXPECT_EQ(config(llama.file)["quantization_config"], (json{{"quant_method", "gguf"}}));
  EXPECT_FALSE(config(TestGgufLlama("llama", 8).file).contains("quantization_config"));
}

TEST_F(GgufModels, RefusesBlocksBeyondFloat16) {
  for (const float scale : {std::numeric_limits<float>::infinity(), std::nanf(""), 65504.0f}) {
    GgufBuilder b = TestGgufLlama().file;
    b.add("blk.0.attn_v.bias", {32}, 8, GgufBuilder::bytes_of(to_half(scale).bits) + std::string(32, '\x7f'));
    const GgufModel model = open(b);
    EXPECT_THAT(error_of([&] { model.read("model.layers.0.self_attn.v_proj.bias"); }),
                HasSubstr("v_proj.bias holds a value that is not finite or beyond F16"));
  }
}

TEST_F(GgufModels, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(refusal(TestGgufLlama("gemma2").file),
              HasSubstr("'gemma2' is not supported in GGUF files (known: llama"));
  EXPECT_THAT(refusal(TestGgufLlama().file.add_floats("blk.0.ssm_in.weight", {1}, {1})),
              HasSubstr("tensor blk.0.ssm_in.weight: not part of a llama model"));
  EXPECT_THAT(refusal(TestGgufLlama().file.set("llama.logit_scale", 2.0f)), HasSubstr("llama.logit_scale"));
  EXPECT_THAT(refusal(TestGgufLlama().file.set("llama.expert_count", uint32_t{8})),
              HasSubstr("mixtures of experts"));
  EXPECT_THAT(refusal(TestGgufLlama().file.set("llama.rope.dimension_count", uint32_t{4})),
              HasSubstr("4 differs from the 8 of keys"));
  EXPECT_THAT(refusal(TestGgufLlama().file.set("llama.rope.scaling.type", "yarn")),
              HasSubstr("'yarn' is not supported"));
  EXPECT_THAT(refusal(GgufBuilder().set("general.architecture", "llama")),
              HasSubstr("token_embd.weight is missing"));
  EXPECT_THAT(refusal(GgufBuilder()), HasSubstr("general.architecture"));
}

TEST_F(GgufModels, ConfigIsThatOfHuggingFace) {
  const json llama = config(TestGgufLlama().file);
  EXPECT_EQ(llama["architectures"], json{"LlamaForCausalLM"});
  EXPECT_EQ(llama["vocab_size"], 12);
  EXPECT_EQ(llama["num_key_value_heads"], 2);
  EXPECT_EQ(llama["head_dim"], 8);
  EXPECT_EQ(llama["rms_norm_eps"].dump(), "1e-05") << "the decimal, not its float32 neighbour";
  EXPECT_EQ(llama["rope_theta"], 10000.0);
  EXPECT_TRUE(llama["rope_scaling"].is_null());
  EXPECT_TRUE(llama["tie_word_embeddings"]);
  EXPECT_FALSE(llama["attention_bias"]);

  TestGgufLlama more;
  more.floats("output.weight", {12, 32});
  more.floats("blk.0.attn_q.bias", {32});
  more.file.set("llama.rope.freq_base", 500000.0f).set("llama.attention.sliding_window", uint32_t{16});
  more.file.set("llama.rope.scaling.type", "linear").set("llama.rope.scaling.factor", 2.5f);
  const json other = config(more.file);
  EXPECT_FALSE(other["tie_word_embeddings"]);
  EXPECT_TRUE(other["attention_bias"]);
  EXPECT_EQ(other["architectures"], json{"MistralForCausalLM"});
  EXPECT_EQ(other["sliding_window"], 16);
  EXPECT_EQ(other["rope_theta"], 500000.0);
  EXPECT_EQ(other["rope_scaling"], (json{{"rope_type", "linear"}, {"factor", 2.5}}));
  EXPECT_EQ(config(TestGgufLlama("qwen3").file)["model_type"], "qwen3");
  TestGgufLlama qwen2("qwen2");
  qwen2.floats("blk.0.attn_q.bias", {32});
  EXPECT_FALSE(config(qwen2.file)["attention_bias"]) << "its q, k and v have biases anyway";
}

TEST_F(GgufModels, RopeFactorsBecomeTheScalingOfLlama3) {
  GgufBuilder b = TestGgufLlama().file;
  b.add_floats("rope_freqs.weight", {4}, {1, 1, 3.5f, 8});
  EXPECT_EQ(config(b)["rope_scaling"], (json{{"rope_type", "llama3"},
                                             {"factor", 8.0},
                                             {"low_freq_factor", 1.0},
                                             {"high_freq_factor", 4.0},
                                             {"original_max_position_embeddings", 8192}}));
}

TEST_F(GgufModels, EndsOfTextAreUnited) {
  GgufBuilder b = TestGgufLlama().file;
  b.set("tokenizer.ggml.bos_token_id", uint32_t{1}).set("tokenizer.ggml.eos_token_id", uint32_t{2});
  b.set("tokenizer.ggml.eot_token_id", uint32_t{5}).set("tokenizer.ggml.eom_token_id", uint32_t{2});
  b.write(path_);
  const json generation = ModelFiles(path_).json("generation_config.json");
  EXPECT_EQ(generation["eos_token_id"], (json{2, 5}));
  EXPECT_EQ(generation["bos_token_id"], 1);
}

TEST_F(GgufModels, SeveralFilesAreOneModel) {
  const auto part = [&](int i) { return dir_ / fmt::format("m-{:05}-of-00002.gguf", i); };
  GgufBuilder first = TestGgufLlama().file, second;
  first.set("split.count", uint16_t{2}).write(part(1));
  second.set("split.count", uint16_t{2}).add_floats("output.weight", {2, 2}, {1, 2, 3, 4}).write(part(2));
  const GgufModel model(part(1));
  EXPECT_EQ(model.tensors().size(), 12u);
  EXPECT_EQ(to_floats(model.read("lm_head.weight")), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(model.files(), (std::vector{part(1), part(2)}));

  second.set("general.architecture", "llama").add_floats("output_norm.weight", {1}, {1}).write(part(2));
  EXPECT_THAT(error_of([&] { GgufModel again(part(1)); }),
              HasSubstr("output_norm.weight: is also in another file"));
  EXPECT_THAT(error_of([&] { GgufModel again(part(2)); }),
              HasSubstr("give the first, which ends in -00001-of-00002"));
  fs::remove(part(2));
  EXPECT_THAT(error_of([&] { GgufModel again(part(1)); }), HasSubstr("m-00002-of-00002.gguf: missing"));
}

TEST_F(GgufModels, OtherPathsAreNoModels) {
  EXPECT_THAT(error_of([&] { ModelFiles("/absent"); }), HasSubstr("no such model folder or GGUF file"));
  write_file(path_, "something else");
  EXPECT_THAT(error_of([&] { ModelFiles files(path_); }),
              HasSubstr("neither a model folder nor a GGUF file"));
}

}  // namespace
}  // namespace tessera
