// Tests of what the readers of other tools' checkpoints refuse, and of the rules that golden files do not
// reach. model/foreign_golden_test.cc judges them with the libraries' own files.
#include "tessera/format/foreign/readers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"
#include "tessera/format/foreign/compressed_tensors_config.h"
#include "tessera/format/load_linear.h"
#include "tessera/format/reference.h"
#include "tessera/source/test_gguf_model.h"

namespace tessera::foreign {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

constexpr int64_t kOutputs = 32, kInputs = 64;
using Tensors = std::map<std::string, Tensor>;

Tensor words(const Shape& shape, int32_t value) {
  Tensor tensor(DType::kI32, shape);
  std::ranges::fill(tensor.as<int32_t>(), value);
  return tensor;
}

Tensor halves(const Shape& shape, float value) {
  Tensor tensor(DType::kF16, shape);
  std::ranges::fill(tensor.as<Half>(), to_half(value));
  return tensor;
}

class Readers : public testing::Test {
 protected:
  ~Readers() override { fs::remove_all(dir_); }

  QuantizedLinear load(const json& section, const Tensors& tensors) {
    fs::create_directories(dir_);
    std::vector<NamedTensor> named;
    for (const auto& [name, tensor] : tensors) named.push_back({"mlp.up_proj." + name, tensor.view()});
    write_safetensors(dir_ / "model.safetensors", named);
    const auto config = read_quantization_config({{{"quantization_config", section}}, "config.json"});
    return load_quantized_linear(Checkpoint(dir_), "mlp.up_proj", *config, kOutputs, kInputs);
  }

  std::string error_of(const json& section, const Tensors& tensors) {
    try {
      load(section, tensors);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

 private:
  fs::path dir_ = fs::temp_directory_path() / (std::string("tessera_readers_") +
                                               testing::UnitTest::GetInstance()->current_test_info()->name());
};

std::string config_error(const json& section) {
  try {
    read_quantization_config({{{"quantization_config", section}}, "config.json"});
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

json with(json section, const json& change) {
  section.merge_patch(change);
  return section;
}

// ---- GPTQ

const json kGptq = {
    {"quant_method", "gptq"}, {"bits", 4}, {"group_size", 32}, {"sym", true}, {"desc_act", false}};

Tensors gptq_tensors(int32_t zeros) {
  Tensors tensors;
  tensors["qweight"] = words({kInputs / 8, kOutputs}, 0x12345678);
  tensors["qzeros"] = words({2, kOutputs / 8}, zeros);
  tensors["scales"] = halves({2, kOutputs}, 0.37f);
  return tensors;
}

TEST_F(Readers, GptqZeroPointsFollowTheirValuesWhereAllMustBeEqual) {
  for (const char* label : {"gptq", "gptq_v2"}) {
    const json section = with(kGptq, {{"checkpoint_format", label}});
    for (int32_t zeros : {0x77777777, static_cast<int32_t>(0x88888888)}) {
      EXPECT_TRUE(load(section, gptq_tensors(zeros)).group_zero.empty()) << label << std::hex << zeros;
    }
    EXPECT_THAT(error_of(section, gptq_tensors(0x76767676)),
                HasSubstr("mlp.up_proj.qzeros: zero points differ"));
  }
}

TEST_F(Readers, GptqZeroPointsFollowTheLabelElsewhere) {
  const json section = with(kGptq, {{"sym", false}});
  EXPECT_EQ(load(section, gptq_tensors(0x43214321)).group_zero.as<uint8_t>()[0], 2);
  const json second = with(section, {{"checkpoint_format", "gptq_v2"}});
  EXPECT_EQ(load(second, gptq_tensors(0x43214321)).group_zero.as<uint8_t>()[0], 1);
  EXPECT_EQ(load(second, gptq_tensors(0x4321432f)).group_zero.as<uint8_t>()[0], 15);
  EXPECT_THAT(error_of(section, gptq_tensors(0x4321432f)),
              HasSubstr("a stored 15 is 16 to some programs and a wrapped 0 to others"));
}

TEST_F(Readers, GptqRefusals) {
  EXPECT_THAT(config_error(with(kGptq, {{"bits", 5}})),
              HasSubstr("bits: codes of 5 bits are not readable here"));
  EXPECT_THAT(config_error(with(kGptq, {{"bits", "4"}})), HasSubstr("bits: expected an integer"));
  EXPECT_THAT(config_error(with(kGptq, {{"checkpoint_format", "gptq_p"}})),
              HasSubstr("checkpoint_format: \"gptq_p\" is not one of gptq, gptq_v2"));
  EXPECT_THAT(config_error(with(kGptq, {{"is_marlin_format", true}})), HasSubstr("repacked"));
  EXPECT_THAT(config_error(with(kGptq, {{"pack_dtype", "int8"}})), HasSubstr("pack_dtype"));
  EXPECT_THAT(config_error(with(kGptq, {{"dynamic", {{"+:.*down.*", {{"bits", 8}}}}}})),
              HasSubstr("settings of single modules"));
  EXPECT_EQ(config_error(with(kGptq, {{"dynamic", {{"-:.*down.*", json::object()}}}})), "no error");

  auto tensors = gptq_tensors(0x77777777);
  tensors.erase("scales");
  EXPECT_THAT(error_of(kGptq, tensors), HasSubstr("mlp.up_proj.scales is missing"));
  tensors["scales"] = words({2, kOutputs}, 1);
  EXPECT_THAT(error_of(kGptq, tensors), HasSubstr("mlp.up_proj.scales: is I32, expected floats"));
  tensors = gptq_tensors(0x77777777);
  tensors.erase("g_idx");
  EXPECT_THAT(error_of(with(kGptq, {{"desc_act", true}}), tensors),
              HasSubstr("mlp.up_proj: g_idx is missing, but config.json says desc_act: true"));
  tensors = gptq_tensors(0x77777777);
  tensors["qzeros"] = words({2, kOutputs}, 0);
  EXPECT_THAT(error_of(kGptq, tensors), HasSubstr("qzeros: is I32 [2, 32], expected I32 [2, 4]"));
  tensors = gptq_tensors(0x77777777);
  tensors["g_idx"] = words({kInputs}, 7);
  EXPECT_THAT(error_of(kGptq, tensors), HasSubstr("g_idx does not spread 64 inputs over 2 groups"));
  tensors = gptq_tensors(0x77777777);
  tensors["qweight"] = words({kInputs / 4, kOutputs}, 0);  // of other sizes
  EXPECT_THAT(error_of(with(kGptq, {{"group_size", nullptr}}), tensors), HasSubstr("config.json asks for"));
  // A file of 8 bits with a label of 4, and the other way round: the tensors do not fit.
  EXPECT_THAT(error_of(with(kGptq, {{"bits", 8}}), gptq_tensors(0x77777777)),
              HasSubstr("qzeros: is I32 [2, 4]"));
}

TEST_F(Readers, GroupSizesAreThoseOfTheTensors) {
  const auto tensors = gptq_tensors(0x77777777);
  for (int64_t size : {64, 16, 0, -1, -7}) {
    EXPECT_THAT(
        error_of(with(kGptq, {{"group_size", size}}), tensors),
        HasSubstr(fmt::format("has 2 groups for 64 inputs, but config.json says group_size {}", size)));
  }
  EXPECT_EQ(error_of(with(kGptq, {{"group_size", nullptr}}), tensors), "no error");
  Tensors awq;
  awq["qweight"] = words({kInputs, kOutputs / 8}, 1);
  awq["qzeros"] = words({1, kOutputs / 8}, 1);
  awq["scales"] = halves({1, kOutputs}, 0.5f);
  const json section = {{"quant_method", "awq"}, {"bits", 4}};
  EXPECT_EQ(error_of(with(section, {{"group_size", -1}}), awq), "no error");
  EXPECT_EQ(error_of(with(section, {{"group_size", 64}}), awq), "no error");
  EXPECT_THAT(error_of(with(section, {{"q_group_size", 32}}), awq),
              HasSubstr("has one group for 64 inputs, but config.json says group_size 32"));
}

// ---- AWQ

TEST_F(Readers, AwqRefusals) {
  const json section = {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 32}, {"version", "gemm"}};
  EXPECT_EQ(config_error(section), "no error");
  EXPECT_THAT(config_error(with(section, {{"bits", 8}})), HasSubstr("bits: codes of 8 bits"));
  EXPECT_THAT(config_error(with(section, {{"version", "gemv_fast"}})),
              HasSubstr("version: \"gemv_fast\" is not one of gemm"));
  EXPECT_THAT(config_error(with(section, {{"backend", "llm-awq"}})), HasSubstr("backend: \"llm-awq\""));
  Tensors tensors;
  tensors["qweight"] = words({kInputs, kOutputs / 8}, 1);
  tensors["qzeros"] = words({3, kOutputs / 8}, 1);
  tensors["scales"] = halves({3, kOutputs}, 0.5f);
  EXPECT_THAT(error_of(section, tensors), HasSubstr("64 inputs are no 3 groups"));
  EXPECT_THAT(error_of(section, gptq_tensors(0x77777777)),
              HasSubstr("expected"));  // GPTQ's under AWQ's label
}

// ---- compressed-tensors

const json kWeights = {
    {"num_bits", 4}, {"type", "int"}, {"symmetric", true}, {"strategy", "group"}, {"group_size", 32}};
const json kTokens = {
    {"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", "token"}, {"dynamic", true}};

json compressed(const json& weights, const json& activations, const char* format = "pack-quantized") {
  return {
      {"quant_method", "compressed-tensors"},
      {"format", format},
      {"ignore", {"lm_head"}},
      {"config_groups",
       {{"group_0", {{"targets", {"Linear"}}, {"weights", weights}, {"input_activations", activations}}}}}};
}

Tensors packed_tensors() {
  Tensors tensors;
  tensors["weight_packed"] = words({kOutputs, kInputs / 8}, 0x12345678);
  tensors["weight_shape"] = Tensor::from<int64_t>(std::vector<int64_t>{kOutputs, kInputs}, {2});
  tensors["weight_scale"] = halves({kOutputs, 2}, 0.25f);
  return tensors;
}

TEST_F(Readers, CompressedTensorsWithIntegerRatiosRunOnIntegers) {
  auto tensors = packed_tensors();
  for (int64_t i = 0; i < 2 * kOutputs; ++i)
    tensors["weight_scale"].as<Half>()[static_cast<size_t>(i)] =
        to_half(0.25f * static_cast<float>(1 + i % 7));
  const QuantizedLinear linear = load(compressed(kWeights, kTokens), tensors);
  EXPECT_EQ(linear.weight_format, WeightFormat::kUint4Grouped);
  EXPECT_EQ(describe(linear), "w4a8 g32");
  tensors["weight_scale"].as<Half>()[3] = to_half(0.3333f);
  EXPECT_EQ(describe(load(compressed(kWeights, nullptr), tensors)), "w4a16 g32 f16 scales");
  // Other ratios have no kernel with integer inputs, but are read, for `quantize` and `convert`.
  EXPECT_EQ(describe(load(compressed(kWeights, kTokens), tensors)), "w4a8 g32 f16 scales");
}

TEST_F(Readers, CompressedTensorsReadsEveryActivationThatRuns) {
  const json channel = {{"num_bits", 4}, {"strategy", "channel"}};
  auto tensors = packed_tensors();
  tensors["weight_scale"] = halves({kOutputs, 1}, 0.25f);
  EXPECT_EQ(describe(load(compressed(channel, with(kTokens, {{"num_bits", 4}})), tensors)),
            "w4a4 per-channel");
  const json fixed = with(kTokens, {{"strategy", "tensor"}, {"dynamic", false}});
  EXPECT_THAT(error_of(compressed(channel, fixed), tensors), HasSubstr("mlp.up_proj.input_scale is missing"));
  tensors["input_scale"] = halves({1}, 0.5f);
  const QuantizedLinear linear = load(compressed(channel, fixed), tensors);
  EXPECT_EQ(describe(linear), "w4a8 static per-channel");
  EXPECT_EQ(linear.input_scale.as<float>()[0], 0.5f);
}

TEST_F(Readers, CompressedTensorsSortsActOrderedInputs) {
  auto tensors = packed_tensors();
  tensors["weight_scale"].as<Half>()[0] = to_half(0.3333f);
  Tensor& groups = tensors["weight_g_idx"] = Tensor(DType::kI32, {kInputs});
  for (size_t k = 0; k < kInputs; ++k) groups.as<int32_t>()[k] = k % 2;
  const QuantizedLinear linear = load(compressed(kWeights, nullptr), tensors);
  EXPECT_EQ(linear.input_index.as<int32_t>()[1], 2);
  EXPECT_EQ(input_weights(linear)[0], to_float(to_half(0.3333f)) * (8 - 8));
  EXPECT_EQ(input_weights(linear)[2], to_float(to_half(0.3333f)) * (6 - 8)) << "third code of the word";
  tensors.erase("weight_g_idx");
  EXPECT_THAT(error_of(compressed(with(kWeights, {{"actorder", "group"}}), nullptr), tensors),
              HasSubstr("mlp.up_proj: weight_g_idx is missing, but config.json says actorder: group"));
}

TEST_F(Readers, CompressedTensorsRefusals) {
  const auto weights = [](const json& change) { return compressed(with(kWeights, change), nullptr); };
  const auto activations = [](const json& change) { return compressed(kWeights, with(kTokens, change)); };
  EXPECT_THAT(config_error(weights({{"type", "float"}})),
              HasSubstr("group_0.weights.type: \"float\" is not one of int"));
  EXPECT_THAT(config_error(weights({{"strategy", "block"}})), HasSubstr("strategy: \"block\" is not one of"));
  EXPECT_THAT(config_error(weights({{"num_bits", 1}})), HasSubstr("num_bits"));
  EXPECT_THAT(config_error(weights({{"group_size", -1}})), HasSubstr("group_size: -1 is no size of a group"));
  EXPECT_THAT(config_error(activations({{"type", "float"}})), HasSubstr("input_activations.type"));
  EXPECT_THAT(config_error(activations({{"strategy", "group"}})), HasSubstr("strategy: \"group\""));
  EXPECT_THAT(config_error(activations({{"symmetric", false}})), HasSubstr("asymmetric activations"));
  EXPECT_THAT(config_error(activations({{"num_bits", 6}})), HasSubstr("num_bits: 6 is not readable here"));
  EXPECT_THAT(config_error(activations({{"dynamic", false}})), HasSubstr("one scale a token is dynamic"));
  EXPECT_THAT(config_error(activations({{"dynamic", "local"}})), HasSubstr("dynamic: expected"));
  EXPECT_THAT(config_error(compressed(kWeights, nullptr, "float-quantized")),
              HasSubstr("format: \"float-quantized\""));
  const auto top = [](const json& change) {
    return config_error(with(compressed(kWeights, nullptr), change));
  };
  EXPECT_THAT(top({{"transform_config", {{"config_groups", {{"R1", 1}}}}}}), HasSubstr("online transforms"));
  EXPECT_THAT(top({{"sparsity_config", {{"format", "sparse-24-bitmask"}}}}),
              HasSubstr("sparsity_config.format"));
  EXPECT_THAT(top({{"quantization_status", "frozen"}}), HasSubstr("quantization_status"));
  EXPECT_THAT(top({{"ignore", {"re:("}}}), HasSubstr("ignore[0]: \"re:(\" is no regular expression"));
  EXPECT_EQ(top({{"transform_config", json::object()}, {"sparsity_config", {{"format", "dense"}}}}),
            "no error");

  const json section = compressed(kWeights, nullptr);
  auto tensors = packed_tensors();
  tensors["weight_shape"].as<int64_t>()[1] = 72;
  EXPECT_THAT(error_of(section, tensors),
              HasSubstr("weight_shape: [32, 72] does not fit weight_packed [32, 8] of 4"));
  for (int64_t bad : {int64_t{-64}, int64_t{0}, std::numeric_limits<int64_t>::max()}) {
    tensors["weight_shape"].as<int64_t>()[1] = bad;
    EXPECT_THAT(error_of(section, tensors), HasSubstr("weight_shape"));
  }
  tensors = packed_tensors();
  tensors["weight_zero_point"] = words({kOutputs / 8, 2}, static_cast<int32_t>(0x88888888));
  EXPECT_EQ(error_of(section, tensors), "no error") << "the middle code";
  tensors["weight_zero_point"].as<int32_t>()[1] = 0x77777777;
  EXPECT_THAT(error_of(section, tensors),
              HasSubstr("weight_zero_point: holds zero points, but config.json says symmetric: true"));
  EXPECT_THAT(
      error_of(with(section, {{"ignore", {"mlp.up_proj"}}}), packed_tensors()),
      HasSubstr("mlp.up_proj: holds codes, but config.json's quantization_config does not target it"));
  tensors = packed_tensors();
  tensors["weight_scale"] = halves({kOutputs, 4}, 1);
  EXPECT_THAT(error_of(section, tensors), HasSubstr("weight_scale has shape [32, 4]"));
  Tensors bytes;
  bytes["weight"] = Tensor(DType::kI8, {kOutputs, kInputs});
  bytes["weight_scale"] = halves({kOutputs, 2}, 1);
  bytes["weight"].as<int8_t>()[5] = 8;
  EXPECT_THAT(error_of(compressed(kWeights, nullptr, "int-quantized"), bytes),
              HasSubstr("weight: 8 is no code of 4 bits"));
}

TEST(CompressedTensorsConfig, NamesBeatExpressionsAndThoseClasses) {
  const auto group = [](const char* target, int bits) -> json {
    return {{"targets", {target}}, {"weights", {{"num_bits", bits}, {"strategy", "channel"}}}};
  };
  const json section = {
      {"format", "pack-quantized"},
      {"ignore", {"re:.*gate$", "lm_head"}},
      {"config_groups",
       {{"a", group("Linear", 4)}, {"b", group("re:.*up_proj", 5)}, {"c", group("x.up_proj", 6)}}}};
  const CompressedTensorsConfig config({section, "config.json"});
  const auto bits = [&](const char* name) {
    const CompressedTensorsScheme* scheme = config.scheme_of(name);
    return scheme ? scheme->bits : 0;
  };
  EXPECT_EQ(bits("x.down_proj"), 4);
  EXPECT_EQ(bits("y.up_proj"), 5);
  EXPECT_EQ(bits("x.up_proj"), 6);
  EXPECT_EQ(bits("x.gate"), 0);
  EXPECT_EQ(bits("x.gate_proj"), 4);
  EXPECT_EQ(bits("lm_head"), 0);
}

TEST(ModulePattern, HostileExpressionsEnd) {
  const json text = "re:(a+)+$";
  const ModulePattern pattern({text, "config.json: ignore[0]"});
  EXPECT_THROW(pattern.matches(std::string(60, 'a') + "b"), Error);
}

// ---- GGUF

TEST_F(Readers, GgufCodesAreKept) {
  const fs::path path = fs::temp_directory_path() / "tessera_readers.gguf";
  TestGgufLlama("llama", 2).file.write(path);
  const ModelConfig config = ModelConfig::load(path);
  const Checkpoint checkpoint(path);
  const auto quantization = read_quantization_config(config);
  const std::string prefix = "model.layers.0.mlp.down_proj";
  ASSERT_TRUE(is_quantized(checkpoint, prefix));
  EXPECT_FALSE(is_quantized(checkpoint, "model.norm"));
  const QuantizedLinear linear = load_quantized_linear(checkpoint, prefix, *quantization, 32, 64);
  EXPECT_EQ(linear.weight_format, WeightFormat::kUint4Float);
  EXPECT_EQ(linear.group_size, 32);
  EXPECT_TRUE(linear.activation.weight_only());
  const GgufFile file(path);
  const GgufTensor& stored = file.tensors().at("blk.0.ffn_down.weight");
  std::vector<float> values(32 * 64);
  decode_blocks(*stored.format, stored.data, values);
  EXPECT_EQ(input_weights(linear), values) << "negative scales turn codes and zero points around";
  EXPECT_TRUE(std::ranges::count(linear.group_zero.as<uint8_t>(), 7) > 0);
  fs::remove(path);
  EXPECT_THAT(error_of({{"quant_method", "gguf"}}, gptq_tensors(0)),
              HasSubstr("has no codes of a GGUF file"));
}

// ---- Files

/// Each tensor one byte off its alignment, as files without a padded header have them.
TEST_F(Readers, TensorsThatAreNotAlignedAreCopied) {
  const json section = with(kGptq, {{"sym", false}});
  Tensors tensors = gptq_tensors(0x43214321);
  const QuantizedLinear expected = load(section, tensors);
  const fs::path path = fs::temp_directory_path() / "tessera_unaligned";
  fs::create_directories(path);
  std::string header = "{", data = "x";
  for (const auto& [name, tensor] : tensors) {
    header += fmt::format(R"({}"mlp.up_proj.{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})",
                          header.size() > 1 ? "," : "", name, name_of(tensor.dtype()),
                          to_string(tensor.shape()), data.size(), data.size() + tensor.bytes());
    data.append(reinterpret_cast<const char*>(tensor.data()), tensor.bytes());
  }
  header += "}";
  while (header.size() % 8 != 0) header += ' ';
  const uint64_t length = header.size();
  write_file(path / "model.safetensors",
             std::string(reinterpret_cast<const char*>(&length), 8) + header + data);
  const auto config = read_quantization_config({{{"quantization_config", section}}, "config.json"});
  const QuantizedLinear found =
      load_quantized_linear(Checkpoint(path), "mlp.up_proj", *config, kOutputs, kInputs);
  EXPECT_EQ(input_weights(found), input_weights(expected));
  fs::remove_all(path);
}

}  // namespace
}  // namespace tessera::foreign
