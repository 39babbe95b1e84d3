// Checkpoints that other tools' libraries wrote: every weight to the last bit, and logits against
// Transformers. tests/golden/make_foreign_models.py made them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tessera/base/json_node.h"
#include "tessera/format/load_linear.h"
#include "tessera/format/reference.h"
#include "tessera/model/context.h"
#include "tessera/model/test_backends.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

struct Case {
  const char* name;
  WeightFormat format;
  int64_t group_size;  ///< of the layer that is looked at
  int activation_bits;
};

class ForeignGolden : public testing::TestWithParam<Case> {
 protected:
  const fs::path dir_ = fs::path(TESSERA_SOURCE_DIR) / "tests" / "golden" / "foreign" / GetParam().name;
};

TEST_P(ForeignGolden, WeightsAreTheLibrarysToTheLastBit) {
  const ModelConfig config = ModelConfig::load(dir_);
  const Checkpoint checkpoint(dir_);
  const auto quantization = read_quantization_config(config);
  ASSERT_TRUE(quantization);
  const ModelSpec spec = make_model_spec(config, checkpoint);
  const nlohmann::json digests = read_json(dir_ / "golden.json");
  for (LinearId id : spec.linear_ids()) {
    const std::string name = spec.linear_name(0, id);
    SCOPED_TRACE(name);
    ASSERT_TRUE(is_quantized(checkpoint, name));
    const QuantizedLinear linear =
        load_quantized_linear(checkpoint, name, *quantization, spec.linears[id].n, spec.linears[id].k);
    EXPECT_EQ(name_of(linear.weight_format), name_of(GetParam().format));
    EXPECT_EQ(linear.activation.bits, GetParam().activation_bits);
    EXPECT_EQ(linear.group_size, GetParam().group_size);
    std::vector<float> weights = input_weights(linear);
    for (float& w : weights) w += 0.0f;  // no minus zero
    EXPECT_EQ(sha256_hex(std::as_bytes(std::span(weights))), digests.at(name));
  }
}

TEST_P(ForeignGolden, LogitsAreTransformers) {
  const SafetensorsFile golden(dir_ / "golden.safetensors");
  const auto ids = golden.tensors().at("ids").as<int32_t>();
  const auto expected = golden.tensors().at("logits").as<float>();
  // Transformers computes with unquantized activations; codes of 8 bits differ from it by a percent or two.
  const double tolerance = GetParam().activation_bits == 16 ? 1e-5 : 0.05;
  for (const TestBackend& which : all_backends()) {
    SCOPED_TRACE(which.name());
    const auto backend = which.make();
    const auto model = Model::load(dir_, *backend);
    Context context(*model, std::ssize(ids), KvFormat::kF32);
    double difference = 0, norm = 0;
    size_t at = 0;
    context.forward(ids, [&](int64_t, std::span<const float> logits) {
      for (float logit : logits) {
        difference += std::pow(double{logit} - expected[at], 2);
        norm += std::pow(double{expected[at++]}, 2);
      }
    });
    EXPECT_EQ(at, expected.size());
    EXPECT_LT(std::sqrt(difference / norm), tolerance);
  }
}

constexpr Case kCases[] = {{"ct-w4a16-g32", WeightFormat::kUint4Float, 32, 16},
                           {"ct-w4a16-g32-zeros", WeightFormat::kUint4Float, 32, 16},
                           {"ct-w6a16", WeightFormat::kInt8, 0, 16},
                           {"ct-w4a8", WeightFormat::kInt4, 0, 8},
                           {"ct-w8a8", WeightFormat::kInt8, 0, 8},
                           {"ct-w8a8-static", WeightFormat::kInt8, 0, 8},
                           {"gptq-g32", WeightFormat::kUint4Float, 32, 16},
                           {"gptq-zeros", WeightFormat::kUint4Float, 32, 16},
                           {"gptq-v2-zeros", WeightFormat::kUint4Float, 32, 16},
                           {"gptq-act-order", WeightFormat::kUint4Float, 32, 16},
                           {"gptq-mislabelled", WeightFormat::kUint4Float, 32, 16},
                           {"gptq-w3", WeightFormat::kUint4Float, 32, 16},
                           {"gptq-w8", WeightFormat::kInt8, 0, 16},
                           {"awq-g32", WeightFormat::kUint4Float, 32, 16},
                           {"qqq", WeightFormat::kInt4, 0, 8},
                           {"qqq-g128", WeightFormat::kInt8, 0, 8}};

INSTANTIATE_TEST_SUITE_P(Libraries, ForeignGolden, testing::ValuesIn(kCases), [](const auto& model) {
  std::string name = model.param.name;
  std::ranges::replace(name, '-', '_');
  return name;
});

}  // namespace
}  // namespace tessera
