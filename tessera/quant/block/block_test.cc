// The float block against golden hidden states, and its parts against direct formulas.
#include "tessera/quant/block/block.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"
#include "tessera/base/test_paths.h"
#include "tessera/quant/block/streams.h"
#include "tessera/quant/block/tensor_bridge.h"
#include "tessera/quant/block/test_models.h"

namespace tessera {
namespace {

/// Rotation angle of pair i at position 1, by the cases of the LLaMA-3 rule.
double expected_frequency(const RopeConfig& rope, int64_t i, int64_t d) {
  const double frequency = 1 / std::pow(rope.theta, static_cast<double>(2 * i) / static_cast<double>(d));
  if (rope.type == RopeConfig::Type::kDefault) return frequency;
  if (rope.type == RopeConfig::Type::kLinear) return frequency / rope.factor;
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < rope.original_context / rope.high_freq_factor) return frequency;
  if (wavelength > rope.original_context / rope.low_freq_factor) return frequency / rope.factor;
  const double smooth = (rope.original_context / wavelength - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * frequency / rope.factor + smooth * frequency;
}

/// x [T, heads * d] in double, every head rotated to its position.
at::Tensor rotated(const ModelSpec& spec, const at::Tensor& x) {
  at::Tensor out = x.to(at::kDouble).clone();
  const int64_t d = spec.head_dim;
  for (int64_t t = 0; t < x.size(0); ++t) {
    double* row = out.data_ptr<double>() + t * x.size(1);
    for (int64_t head = 0; head < x.size(1) / d; ++head) {
      for (int64_t i = 0; i < d / 2; ++i) {
        const double angle = static_cast<double>(t) * expected_frequency(spec.rope, i, d);
        double &a = row[head * d + i], &b = row[head * d + d / 2 + i];
        const double turned = a * std::cos(angle) - b * std::sin(angle);
        b = b * std::cos(angle) + a * std::sin(angle);
        a = turned;
      }
    }
  }
  return out;
}

/// Attention of one window, one query head and one query at a time.
at::Tensor naive_attention(const ModelSpec& spec, const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v) {
  const int64_t tokens = q.size(0), d = spec.head_dim;
  const bool rope = spec.positions == Positions::kRope;
  const at::Tensor queries = rope ? rotated(spec, q) : q.to(at::kDouble),
                   keys = rope ? rotated(spec, k) : k.to(at::kDouble), values = v.to(at::kDouble);
  at::Tensor out = at::zeros_like(queries);
  for (int64_t head = 0; head < spec.n_heads; ++head) {
    const int64_t kv_head = head / (spec.n_heads / spec.n_kv_heads);
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t first = spec.sliding_window > 0 ? std::max<int64_t>(0, t - spec.sliding_window + 1) : 0;
      const auto part = [&](const at::Tensor& x) {
        return x.narrow(0, first, t + 1 - first).narrow(1, kv_head * d, d);
      };
      at::Tensor scores = at::mv(part(keys), queries[t].narrow(0, head * d, d)) / std::sqrt(double(d));
      if (!spec.alibi_slopes.empty()) {
        scores += spec.alibi_slopes[static_cast<size_t>(head)] * (at::arange(first, t + 1, at::kDouble) - t);
      }
      out[t].narrow(0, head * d, d).copy_(at::mv(part(values).t(), at::softmax(scores, 0)));
    }
  }
  return out.to(at::kFloat);
}

struct AttentionCase {
  int64_t kv_heads, sliding_window;
  RopeConfig rope;
  std::vector<float> alibi_slopes = {};
};

class Attention : public testing::TestWithParam<AttentionCase> {};

TEST_P(Attention, EqualsTheDefinition) {
  ModelSpec spec = test_spec({.kv_heads = GetParam().kv_heads});
  spec.sliding_window = GetParam().sliding_window;
  spec.rope = GetParam().rope;
  spec.alibi_slopes = GetParam().alibi_slopes;
  if (!spec.alibi_slopes.empty()) spec.positions = Positions::kAlibi;
  at::manual_seed(1);
  const int64_t tokens = 300;  // more query rows than are scored at once
  const at::Tensor q = at::randn({2, tokens, spec.q_size()}) * 2,
                   k = at::randn({2, tokens, spec.kv_size()}) * 2, v = at::randn({2, tokens, spec.kv_size()});
  Block block;
  block.window = spec.window(0);
  const at::Tensor out = attention_core(spec, block, q, k, v);
  for (int64_t b = 0; b < 2; ++b) {
    EXPECT_LT(relative_error(out[b], naive_attention(spec, q[b], k[b], v[b])), 2e-5) << "window " << b;
  }
}

RopeConfig llama3_rope() {
  return {.type = RopeConfig::Type::kLlama3, .theta = 5e5, .factor = 8, .original_context = 128};
}

INSTANTIATE_TEST_SUITE_P(
    Variants, Attention,
    testing::Values(AttentionCase{4, 0, {}}, AttentionCase{2, 0, {}}, AttentionCase{1, 0, {}},
                    AttentionCase{4, 40, {}},
                    AttentionCase{4, 0, {.type = RopeConfig::Type::kLinear, .factor = 4}},
                    AttentionCase{4, 0, llama3_rope()}, AttentionCase{4, 0, {}, {0.5f, 0.25f, 0.1f, 0.01f}},
                    AttentionCase{2, 40, {}, {0.5f, 0.25f, 0.1f, 0.01f}}));

TEST(Block, WindowsDoNotSeeEachOther) {
  const TestModel model = make_test_model({.kv_heads = 2, .biases = true});
  const Block& block = model.blocks[0];
  at::manual_seed(2);
  const at::Tensor x = at::randn({5, 300, model.spec.hidden_size});
  const at::Tensor together = block_forward(model.spec, block, float_linears(block), x);
  for (int64_t b = 0; b < x.size(0); ++b) {
    const at::Tensor alone = block_step(model.spec, block, float_linears(block), x.narrow(0, b, 1));
    EXPECT_LT(relative_error(together.narrow(0, b, 1), alone), 1e-5);
  }
}

TEST(Block, LoadRefusesWeightsThatAreNotFinite) {
  const TestModel model = make_test_model({.biases = true, .layers = 1});
  const ModelSpec& spec = model.spec;
  const Block& block = model.blocks[0];
  const auto dir = std::filesystem::temp_directory_path() / "tessera_block_test";
  std::filesystem::create_directories(dir);
  const auto save = [&] {
    std::vector<NamedTensor> tensors;
    for (LinearId id : spec.linear_ids()) {
      tensors.push_back({spec.linear_name(0, id) + ".weight", view_of(block.weight[id])});
      tensors.push_back({spec.linear_name(0, id) + ".bias", view_of(block.bias[id])});
    }
    for (NormId id : spec.existing_norms()) {
      tensors.push_back({spec.norm_name(0, id) + ".weight", view_of(block.gain[id])});
    }
    write_safetensors(dir / "model.safetensors", tensors);
  };
  save();
  const Block loaded = load_block(Checkpoint(dir), spec, 0, at::kCPU);
  EXPECT_TRUE(at::equal(loaded.weight[spec.id(kDown)], block.weight[spec.id(kDown)]));
  EXPECT_TRUE(at::equal(loaded.bias[spec.id(kV)], block.bias[spec.id(kV)]));
  block.weight[spec.id(kUp)][3][4] = std::numeric_limits<float>::quiet_NaN();
  save();
  try {
    load_block(Checkpoint(dir), spec, 0, at::kCPU);
    FAIL() << "accepted NaN";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("0.up_proj.weight holds a value that is not finite"),
              std::string::npos);
  }
  std::filesystem::remove_all(dir);
}

class GoldenBlocks : public testing::TestWithParam<const char*> {};

TEST_P(GoldenBlocks, ReproduceHiddenStates) {
  const auto dir = shared_dir() / "models" / GetParam();
  TESSERA_REQUIRE_FILE(dir / "golden.safetensors");
  const ModelSpec spec = make_model_spec(ModelConfig::load(dir));
  const Checkpoint checkpoint(dir);
  const SafetensorsFile golden(dir / "golden.safetensors");
  const auto hidden = [&](int64_t i) {
    return to_float_tensor(golden.tensors().at("prompt0.hidden." + std::to_string(i)), at::kCPU).unsqueeze(0);
  };
  const auto prompts = nlohmann::json::parse(read_file(dir / "golden.json"))["prompts"];
  const std::vector<std::vector<int32_t>> ids = {prompts[0]["ids"].get<std::vector<int32_t>>()};
  at::Tensor x = embed_windows(
      spec, [&](const std::string& name) { return checkpoint.at(name); }, ids, at::kCPU);
  EXPECT_LT(relative_error(x, hidden(0)), 1e-6);
  for (int64_t layer = 0; layer + 1 < spec.n_layers; ++layer) {
    const Block block = load_block(checkpoint, spec, layer, at::kCPU);
    x = block_forward(spec, block, float_linears(block), x);
    EXPECT_LT(relative_error(x, hidden(layer + 1)), 1e-5) << "layer " << layer;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenBlocks, testing::Values("demo-llama", "lab-opt"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace tessera
