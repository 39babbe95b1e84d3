// Tests of config.json reading: both RoPE dialects, EOS union, hostile values.
#include "tessera/format/model_config.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tessera/base/atomic_output.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

ModelConfig config(const char* text) {
  return {json::parse(text), "config.json"};
}

TEST(ModelConfig, RopeOldDialect) {
  const RopeConfig rope =
      config(R"({"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
      "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})")
          .rope();
  EXPECT_EQ(rope.type, RopeConfig::Type::kLlama3);
  EXPECT_EQ(rope.theta, 500000.0);
  EXPECT_EQ(rope.factor, 8.0);
  EXPECT_EQ(config(R"({"rope_scaling": {"type": "linear", "factor": 2}})").rope().type,
            RopeConfig::Type::kLinear);
  EXPECT_EQ(config(R"({"rope_scaling": null})").rope().theta, 10000.0);
}

TEST(ModelConfig, RopeNewDialect) {
  const RopeConfig rope =
      config(R"({"rope_parameters": {"rope_theta": 1e6, "rope_type": "linear", "factor": 4.0}})").rope();
  EXPECT_EQ(rope.type, RopeConfig::Type::kLinear);
  EXPECT_EQ(rope.theta, 1e6);
  EXPECT_EQ(rope.factor, 4.0);
  EXPECT_EQ(config(R"({"rope_parameters": {"rope_theta": 2e6, "rope_type": "default"}})").rope().theta, 2e6);
}

TEST(ModelConfig, RopeRefusals) {
  EXPECT_THROW(config(R"({"rope_scaling": {"type": "yarn", "factor": 2}})").rope(), Error);
  EXPECT_THROW(config(R"({"rope_scaling": 3})").rope(), Error);
  EXPECT_THROW(config(R"({"rope_scaling": {"type": "linear", "factor": 0}})").rope(), Error);
  EXPECT_THROW(config(R"({"rope_scaling": {"type": "linear", "factor": "2"}})").rope(), Error);
}

TEST(ModelConfig, GettersNameTheKey) {
  try {
    config(R"({"hidden_size": "big"})").extent("hidden_size");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("hidden_size"), std::string::npos);
  }
  EXPECT_THROW(config("{}").extent("hidden_size"), Error);
  EXPECT_THROW(config(R"({"hidden_size": 0})").extent("hidden_size"), Error);
  EXPECT_EQ(config(R"({"architectures": []})").architecture(), "");
  EXPECT_EQ(config("{}").architecture(), "");
  EXPECT_EQ(config(R"({"x": null})").get<int>("x", 3), 3);
}

TEST(ModelConfig, UnitesEosIds) {
  const fs::path dir = fs::temp_directory_path() / "tessera_config_test";
  fs::remove_all(dir);
  EXPECT_THROW(ModelConfig::load(dir), Error);
  fs::create_directories(dir);
  EXPECT_THROW(ModelConfig::load(dir), Error);
  write_file(dir / "config.json", R"({"eos_token_id": 2})");
  write_file(dir / "generation_config.json", R"({"eos_token_id": [2, 7]})");
  EXPECT_EQ(ModelConfig::load(dir).eos_token_ids(), (std::vector<int32_t>{2, 7}));
  for (const char* empty : {"", "\n", "{}"}) {
    write_file(dir / "generation_config.json", empty);
    EXPECT_EQ(ModelConfig::load(dir).eos_token_ids(), std::vector<int32_t>{2});
  }
  write_file(dir / "config.json", "{");
  EXPECT_THROW(ModelConfig::load(dir), Error);
  fs::remove_all(dir);
}

class QuantizeConfig : public testing::Test {
 protected:
  QuantizeConfig() { fs::create_directories(dir_); }
  ~QuantizeConfig() override { fs::remove_all(dir_); }

  ModelConfig load(const char* config, const char* older) const {
    write_file(dir_ / "config.json", config);
    write_file(dir_ / "quantize_config.json", older);
    return ModelConfig::load(dir_);
  }

  const fs::path dir_ = fs::temp_directory_path() / fmt::format("tessera_quantize_config_{}", ::getpid());
};

TEST_F(QuantizeConfig, AloneItSaysHowTheWeightsAreQuantized) {
  const ModelConfig config = load("{}", R"({"bits": 4, "group_size": 128, "desc_act": false})");
  EXPECT_EQ(config.quantization()["quant_method"].string(), "gptq") << "AutoGPTQ wrote such files";
  EXPECT_EQ(config.quantization()["bits"].get<int>(), 4);
  EXPECT_EQ(config.quantization()["bits"].where(), (dir_ / "quantize_config.json").string() + ": bits");
  EXPECT_EQ(load("{}", R"({"quant_method": "awq"})").quantization()["quant_method"].string(), "awq");
  EXPECT_THROW(load("{}", "[]"), Error);
}

TEST_F(QuantizeConfig, MustAgreeWithConfigJson) {
  constexpr const char* kSection = R"({"quantization_config": {"quant_method": "gptq", "bits": 4}})";
  EXPECT_EQ(load(kSection, R"({"bits": 4, "meta": 1})").quantization()["bits"].where(),
            (dir_ / "config.json").string() + ": quantization_config.bits");
  try {
    load(kSection, R"({"bits": 8})");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(
        std::string(e.what()),
        fmt::format("{0}/quantize_config.json: bits: 8, but 4 in {0}/config.json; remove the file that is "
                    "wrong",
                    dir_.string()));
  }
}

}  // namespace
}  // namespace tessera
