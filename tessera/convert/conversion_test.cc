// Tests of whole conversions: models that other tools' libraries wrote, from format to format, weights judged
// by the libraries' own digests.
#include "tessera/convert/conversion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tessera/base/atomic_output.h"
#include "tessera/format/random_layer.h"
#include "tessera/format/reference.h"
#include "tessera/format/safetensors.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

fs::path golden(const std::string& name) {
  return fs::path(TESSERA_SOURCE_DIR) / "tests" / "golden" / "foreign" / name;
}

fs::path tiny(const std::string& name) {
  return fs::path(TESSERA_SOURCE_DIR) / "tests" / "golden" / name;
}

/// As tests/golden/make_foreign_models.py computes it.
std::string digest(std::vector<float> weights) {
  for (float& w : weights) w += 0.0f;  // no minus zero
  return sha256_hex(std::as_bytes(std::span(weights)));
}

/// Of every linear, in float32.
std::map<std::string, std::string> digests(const fs::path& model) {
  const SourceModel source(model);
  std::map<std::string, std::string> found;
  for (const SourceModel::Linear& linear : source.linears()) {
    found[linear.name] =
        digest(linear.quantized ? input_weights(source.load(linear))
                                : to_floats(source.checkpoint().at(linear.name + ".weight")));
  }
  return found;
}

class ConversionTest : public testing::Test {
 protected:
  ConversionTest() { fs::create_directories(dir_); }
  ~ConversionTest() override { fs::remove_all(dir_); }

  fs::path convert(const fs::path& in, const std::string& target, ConversionOptions options = {}) {
    options.in = in;
    options.target = target;
    options.out = dir_ / fmt::format("{}-{}", in.filename().string(), target);
    Reporter quiet;
    const Conversion conversion(options);
    conversion.write(conversion.survey(quiet), quiet);
    return options.out;
  }

  std::string error_of(const fs::path& in, const std::string& target, const ConversionOptions& options = {}) {
    try {
      convert(in, target, options);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

  const fs::path dir_ =
      fs::temp_directory_path() / fmt::format("tessera_conversion_{}_{}", ::getpid(),
                                              testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(ConversionTest, TheLibrariesModelsKeepTheirWeightsInEveryFormatThatHoldsThem) {
  const std::pair<const char*, std::vector<const char*>> list[] = {
      {"ct-w4a16-g32", {"gptq", "gptq_v2", "awq", "tessera", "hf"}},
      {"ct-w4a16-g32-zeros", {"gptq_v2", "awq", "tessera", "hf"}},
      {"ct-w4a8", {"gptq", "awq", "tessera", "hf"}},
      {"ct-w8a8", {"gptq", "tessera", "hf"}},
      {"ct-w8a8-static", {"tessera", "compressed-tensors", "hf"}},
      {"gptq-g32", {"compressed-tensors", "gptq_v2", "awq", "tessera", "hf"}},
      {"gptq-zeros", {"compressed-tensors", "gptq", "gptq_v2", "awq", "tessera", "hf"}},
      {"gptq-v2-zeros", {"compressed-tensors", "awq", "tessera", "hf"}},
      {"gptq-act-order", {"gptq", "gptq_v2", "tessera", "hf"}},
      {"gptq-w8", {"compressed-tensors", "gptq_v2", "tessera", "hf"}},
      {"awq-g32", {"compressed-tensors", "gptq_v2", "tessera", "hf"}},
      {"qqq", {"qqq", "compressed-tensors", "awq", "tessera"}}};
  for (const auto& [name, targets] : list) {
    const json expected = read_json(golden(name) / "golden.json");
    for (const char* target : targets) {
      SCOPED_TRACE(fmt::format("{} to {}", name, target));
      EXPECT_EQ(json(digests(convert(golden(name), target))), expected);
    }
  }
}

TEST_F(ConversionTest, ThereAndBackThroughOursGivesTheSameTensors) {
  for (const char* name : {"gptq-zeros", "gptq-act-order", "gptq-v2-zeros"}) {
    const std::string target = std::string(name) == "gptq-v2-zeros" ? "gptq_v2" : "gptq";
    const fs::path back = convert(convert(golden(name), "tessera"), target);
    const Checkpoint original(golden(name)), found(back);
    ASSERT_EQ(found.tensors().size(), original.tensors().size());
    for (const auto& [tensor, info] : original.tensors()) {
      const TensorView a = original.at(tensor), b = found.at(tensor);
      EXPECT_EQ(b.dtype, a.dtype) << tensor;
      ASSERT_EQ(b.shape, a.shape) << tensor;
      EXPECT_EQ(sha256_hex({b.data, b.bytes()}), sha256_hex({a.data, a.bytes()})) << name << " " << tensor;
    }
  }
}

TEST_F(ConversionTest, WritesARecordAndTheSettingsOfTheTool) {
  const fs::path out = convert(golden("ct-w4a16-g32"), "gptq");
  const json record = read_json(out / "conversion.json"), config = read_json(out / "config.json"),
             settings = read_json(out / "quantize_config.json");
  EXPECT_EQ(record.at("to"), "gptq");
  EXPECT_EQ(record.at("input").at("format"), "compressed-tensors");
  EXPECT_EQ(record.at("input").at("sha256").at("model.safetensors"),
            digest_file(golden("ct-w4a16-g32") / "model.safetensors").sha256);
  const json& linear = record.at("linears").at("model.layers.0.mlp.up_proj");
  EXPECT_EQ(linear.at("exact"), true);
  EXPECT_EQ(linear.at("from"), "w4a16 g32 f16 scales");
  EXPECT_EQ(linear.at("to"), "4 bits g32");
  EXPECT_EQ(config.at("quantization_config"), settings);
  EXPECT_EQ(config.at("torch_dtype"), "float16");
  EXPECT_EQ(settings.at("group_size"), 32);
}

TEST_F(ConversionTest, WritesNothingWhereItRefuses) {
  EXPECT_THAT(error_of(golden("gptq-act-order"), "awq"),
              HasSubstr("gptq-act-order: model.layers.0.self_attn.q_proj: awq has no place for its order"));
  EXPECT_THAT(error_of(golden("ct-w4a8"), "tessera2"), HasSubstr("is no format that tessera writes"));
  EXPECT_TRUE(fs::is_empty(dir_));
  EXPECT_THAT(error_of(fs::path(TESSERA_SOURCE_DIR) / "models" / "demo-llama", "gptq"),
              HasSubstr("has no quantized layers, which gptq is for; make some with tessera quantize"));
  EXPECT_TRUE(fs::is_empty(dir_));
  const fs::path ours = convert(golden("qqq"), "tessera");
  EXPECT_THAT(error_of(ours, "tessera"), HasSubstr("is in tessera's format already"));
  EXPECT_THAT(error_of(golden("qqq"), "tessera"), HasSubstr("is there already; choose another output"));
  fs::create_directory(dir_ / "qqq-qqq.partial");
  write_file(dir_ / "qqq-qqq.partial" / "mine", "");
  EXPECT_THAT(error_of(golden("qqq"), "qqq"), HasSubstr("qqq-qqq.partial: not made by tessera"));
  EXPECT_TRUE(fs::exists(dir_ / "qqq-qqq.partial" / "mine")) << "not ours to remove";
  fs::copy(golden("qqq"), dir_ / "q.partial");
  ConversionOptions options{.in = dir_ / "q.partial", .out = dir_ / "q", .target = "tessera"};
  EXPECT_THAT([&] { Conversion{options}; },
              testing::ThrowsMessage<Error>(HasSubstr("would be replaced by an unfinished output")));
}

TEST_F(ConversionTest, SettingsMayStandInAFileOfTheirOwn) {
  const fs::path in = dir_ / "older";
  fs::copy(golden("gptq-zeros"), in);
  json config = read_json(in / "config.json");
  json section = config.at("quantization_config");
  section.erase("quant_method");
  config.erase("quantization_config");
  write_file(in / "config.json", config.dump());
  write_file(in / "quantize_config.json", section.dump());
  EXPECT_EQ(SourceModel(in).format(), "gptq");
  EXPECT_EQ(json(digests(in)), read_json(golden("gptq-zeros") / "golden.json"));
  EXPECT_EQ(json(digests(convert(in, "awq"))), read_json(golden("gptq-zeros") / "golden.json"));
}

TEST_F(ConversionTest, RoundingIsCountedInTheRecord) {
  EXPECT_THAT(error_of(golden("ct-w8a8"), "hf:bf16"), HasSubstr("is no bfloat16 number; --round rounds it"));
  const fs::path out = convert(golden("ct-w8a8"), "hf:bf16", {.round = true});
  const json linear = read_json(out / "conversion.json").at("linears").at("model.layers.0.mlp.up_proj");
  EXPECT_EQ(linear.at("exact"), false);
  EXPECT_GT(linear.at("rounded_numbers"), 0);
  EXPECT_LE(linear.at("largest_relative_change"), 0x1p-8);
}

/// One of the libraries' models with a tokenizer of 64 tokens.
fs::path with_tokenizer(const fs::path& model, const fs::path& copy) {
  fs::copy(model, copy);
  json vocab = json::object();
  for (int id = 0; id < 60; ++id) vocab[fmt::format("t{}", id)] = id;
  const json bos = {{"id", 60}, {"content", "<s>"}, {"special", true}};
  const json level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", true}};
  write_file(copy / "tokenizer.json",
             json{{"added_tokens", {bos}},
                  {"normalizer", nullptr},
                  {"pre_tokenizer", level},
                  {"decoder", level},
                  {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", json::array()}}}}
                 .dump());
  write_file(copy / "tokenizer_config.json",
             json{{"bos_token", "<s>"}, {"chat_template", "{{ messages }}"}}.dump());
  return copy;
}

TEST_F(ConversionTest, GgufFilesHoldTheModel) {
  for (const char* name : {"gptq-g32", "ct-w4a8", "ct-w8a8"}) {
    SCOPED_TRACE(name);
    const fs::path in = with_tokenizer(golden(name), dir_ / name);
    const fs::path out = convert(in, "gguf");
    const GgufFile file(out);
    EXPECT_EQ(file.metadata()["llama.attention.head_count_kv"].value(), 2);
    EXPECT_EQ(file.metadata()["tokenizer.ggml.pre"].value(), "gpt-2");
    EXPECT_EQ(file.metadata()["tokenizer.ggml.tokens"].value().size(), 64u);
    EXPECT_EQ(file.metadata()["tokenizer.ggml.token_type"].value()[60], 3);
    EXPECT_EQ(file.metadata()["tokenizer.ggml.token_type"].value()[61], 5);
    EXPECT_EQ(file.metadata()["tokenizer.ggml.bos_token_id"].value(), 60);
    EXPECT_EQ(file.metadata()["tokenizer.chat_template"].value(), "{{ messages }}");
    // The rows of q are interleaved in the file; the reader puts them back.
    const SourceModel original(in), found(out);
    EXPECT_EQ(found.spec().n_kv_heads, original.spec().n_kv_heads);
    EXPECT_EQ(found.spec().rope.theta, original.spec().rope.theta);
    for (const SourceModel::Linear& linear : original.linears()) {
      EXPECT_EQ(to_floats(found.checkpoint().at(linear.name + ".weight")),
                input_weights(original.load(linear)))
          << linear.name;
    }
    EXPECT_EQ(to_floats(found.checkpoint().at("model.norm.weight")),
              to_floats(original.checkpoint().at("model.norm.weight")));
    EXPECT_EQ(read_json(out.string() + ".conversion.json").at("to"), "gguf");
  }
}

/// As `tessera quantize` leaves one: one scale an output, of 11 bits.
fs::path with_head_in_codes(const fs::path& model) {
  QuantizedLinear head =
      random_layer({.format = WeightFormat::kInt8, .n = 64, .k = 64, .activation = {}}, /*seed=*/1);
  for (float& scale : head.scale.as<float>()) scale = to_float(to_half(scale));
  std::vector<NamedTensor> tensors = named_tensors(head, "lm_head");
  const Checkpoint checkpoint(model);
  for (const std::string& name : checkpoint.names()) {
    if (name != "lm_head.weight") tensors.push_back({name, checkpoint.at(name)});
  }
  const fs::path copy = model.string() + "-head";
  fs::copy(model, copy);
  write_safetensors(copy / "model.safetensors", tensors);
  return copy;
}

TEST_F(ConversionTest, CodesOfLmHeadBecomeFloatsOrATypeOfGguf) {
  const fs::path in =
      with_head_in_codes(convert(with_tokenizer(golden("ct-w8a8"), dir_ / "ct-w8a8"), "tessera"));
  const auto expected = digests(in);
  ASSERT_TRUE(expected.contains("lm_head"));
  for (const char* target : {"compressed-tensors", "gptq", "hf", "gguf", "gguf:q8_0", "gguf:f32"}) {
    SCOPED_TRACE(target);
    const SourceModel found(convert(in, target));
    EXPECT_EQ(digest(to_floats(found.checkpoint().at("lm_head.weight"))), expected.at("lm_head"));
    EXPECT_FALSE(found.spec().tied_embeddings);
  }
  const auto type_of = [&](const char* target) {
    return GgufFile(dir_ / fmt::format("ct-w8a8-tessera-head-{}", target))
        .tensors()
        .at("output.weight")
        .format->name;
  };
  EXPECT_EQ(type_of("gguf"), type_of("gguf:q8_0"));
  EXPECT_NE(type_of("gguf"), type_of("gguf:f32"));
}

/// Blocks whose codes are not kept, and floats of whatever target: config.json promises no fewer bits than
/// they have.
TEST_F(ConversionTest, BlocksOfGgufFilesBecomeFloats) {
  const fs::path in = with_tokenizer(golden("ct-w8a8"), dir_ / "ct-w8a8"), file = convert(in, "gguf:q8_0");
  for (const char* target : {"hf", "hf:f16"}) {
    const fs::path exact = convert(file, target, {.round = true});
    EXPECT_EQ(digests(exact), digests(in)) << target;
    EXPECT_EQ(SourceModel(exact).checkpoint().info("model.layers.0.mlp.up_proj.weight").dtype, DType::kF32);
    EXPECT_EQ(read_json(exact / "config.json").at("torch_dtype"), "float32") << target;
  }
}

/// Models in floats that Transformers judged; tests/golden/make_tiny_models.py made them.
TEST_F(ConversionTest, GgufFilesOfQwenAreTheFolder) {
  for (const char* name : {"qwen2", "qwen3"}) {
    SCOPED_TRACE(name);
    const fs::path in = with_tokenizer(tiny(name), dir_ / name), out = convert(in, "gguf");
    EXPECT_EQ(GgufFile(out).metadata()["general.architecture"].value(), name);
    const SourceModel original(in), found(out);
    EXPECT_EQ(found.spec().family, name);
    EXPECT_EQ(found.spec().head_dim, original.spec().head_dim);
    EXPECT_EQ(found.spec().norm_eps, original.spec().norm_eps);
    EXPECT_EQ(found.spec().tied_embeddings, original.spec().tied_embeddings);
    ASSERT_EQ(found.checkpoint().tensors().size(), original.checkpoint().tensors().size());
    for (const auto& [tensor, info] : original.checkpoint().tensors()) {
      EXPECT_EQ(found.checkpoint().info(tensor).shape, info.shape) << tensor;
      EXPECT_EQ(to_floats(found.checkpoint().at(tensor)), to_floats(original.checkpoint().at(tensor)))
          << tensor << ": rows of Qwen stay in order";
    }
  }
}

TEST_F(ConversionTest, GgufFilesHoldTheRotationOfLlama3) {
  const fs::path in = with_tokenizer(golden("gptq-g32"), dir_ / "llama3");
  json config = read_json(in / "config.json");
  config.erase("rope_parameters");
  config["rope_theta"] = 500000.0;
  config["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", 32.0},
                            {"low_freq_factor", 1.0},
                            {"high_freq_factor", 4.0},
                            {"original_max_position_embeddings", 64}};
  write_file(in / "config.json", config.dump());
  const fs::path out = convert(in, "gguf");
  const GgufFile file(out);
  EXPECT_EQ(file.metadata()["llama.rope.scaling.original_context_length"].value(), 64);
  const SourceModel original(in), found(out);
  const std::vector<float> factors = to_floats(found.checkpoint().at(kRopeFactors));
  ASSERT_EQ(std::ssize(factors), original.spec().head_dim / 2);
  EXPECT_EQ(factors.front(), 1) << "short waves stay";
  EXPECT_EQ(factors.back(), 32) << "long ones are divided";
  EXPECT_EQ(found.spec().rope.type, RopeConfig::Type::kLlama3);
  EXPECT_EQ(found.spec().rope.factor, 32);
  EXPECT_EQ(found.spec().rope.original_context, 64);
  EXPECT_EQ(found.spec().rope.theta, 500000);
  // What no formula of ours gives is refused.
  std::string bytes = read_file(out);
  const size_t at =
      static_cast<size_t>(reinterpret_cast<const char*>(file.tensors().at(kRopeFactors).data.data()) -
                          reinterpret_cast<const char*>(file.bytes().data()));
  bytes[at + 2] ^= 0x40;
  write_file(dir_ / "tampered.gguf", bytes);
  EXPECT_THAT([&] { SourceModel{dir_ / "tampered.gguf"}; },
              testing::ThrowsMessage<Error>(HasSubstr(kRopeFactors)));
}

TEST_F(ConversionTest, GgufRefusesWhatLlamaCppCannotName) {
  EXPECT_THAT(error_of(golden("gptq-g32"), "gguf"),
              HasSubstr("tokenizer.json: neither there nor tokenizer.model"));
  const fs::path in = with_tokenizer(golden("gptq-g32"), dir_ / "odd");
  json tokenizer = read_json(in / "tokenizer.json");
  tokenizer["pre_tokenizer"]["use_regex"] = false;
  write_file(in / "tokenizer.json", tokenizer.dump());
  EXPECT_THAT(error_of(in, "gguf"), HasSubstr("llama.cpp has no name for this pre-tokenizer"));
  EXPECT_FALSE(fs::exists(dir_ / "odd-gguf"));
}

}  // namespace
}  // namespace tessera
