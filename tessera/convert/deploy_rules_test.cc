// Tests of the rules of other engines, on the models that the libraries wrote.
#include "tessera/convert/deploy_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/format/safetensors.h"

namespace tessera {
namespace {

using testing::HasSubstr;
using Answer = DeployVerdict::Answer;

std::vector<DeployVerdict> check(const std::string& name, const std::string& engine, int64_t ranks = 1) {
  const auto path = std::filesystem::path(TESSERA_SOURCE_DIR) / "tests" / "golden" / "foreign" / name;
  return check_deployment(SourceModel(path), engine, ranks);
}

void expect_all(const std::vector<DeployVerdict>& verdicts, Answer answer) {
  ASSERT_FALSE(verdicts.empty());
  for (const DeployVerdict& v : verdicts) EXPECT_EQ(v.answer, answer) << v.linear.name << ": " << v.reason;
}

const DeployVerdict& of(const std::vector<DeployVerdict>& verdicts, const std::string& name) {
  return *std::ranges::find_if(verdicts,
                               [&](const DeployVerdict& v) { return v.linear.name.ends_with(name); });
}

TEST(DeployRules, EveryRuleHasASource) {
  for (const DeployRule& rule : deploy_rules())
    EXPECT_STRNE(rule.source, "") << rule.engine << " " << rule.format;
}

TEST(DeployRules, VllmRunsWhatItsSchemesTake) {
  expect_all(check("ct-w4a8", "vllm"), Answer::kRuns);
  expect_all(check("ct-w8a8", "vllm"), Answer::kRuns);
  // 64 inputs are too few for Marlin.
  const auto verdicts = check("ct-w4a16-g32", "vllm");
  EXPECT_EQ(of(verdicts, "up_proj").answer, Answer::kFails);
  EXPECT_THAT(of(verdicts, "up_proj").reason, HasSubstr("64 inputs on a rank, no multiple of 128"));
  EXPECT_EQ(of(verdicts, "down_proj").answer, Answer::kRuns) << "128 inputs, 64 outputs";
  EXPECT_EQ(of(check("ct-w4a16-g32", "vllm", 2), "down_proj").answer, Answer::kFails)
      << "64 inputs on each rank";
  EXPECT_THAT(of(check("qqq", "vllm"), "up_proj").reason, HasSubstr("vllm does not read qqq"));
}

TEST(DeployRules, StaticInputsRunWithEightBitWeightsAlone) {
  expect_all(check("ct-w8a8-static", "vllm"), Answer::kRuns);
  for (const DeployRule& rule : deploy_rules()) {
    if (rule.engine == std::string("vllm") && rule.weight_bits == 4) {
      EXPECT_EQ(rule.static_inputs, rule.activation_bits == 16);
    }
  }
}

TEST(DeployRules, VllmRunsQueriesKeysAndValuesAsOne) {
  // One linear of three left in floats.
  const auto path = std::filesystem::temp_directory_path() / fmt::format("tessera_deploy_{}", ::getpid());
  const auto golden = std::filesystem::path(TESSERA_SOURCE_DIR) / "tests" / "golden" / "foreign" / "ct-w8a8";
  std::filesystem::copy(golden, path);
  const std::string linear = "model.layers.0.self_attn.k_proj";
  const SafetensorsFile original(golden / "model.safetensors");
  std::vector<NamedTensor> tensors;
  for (const auto& [name, view] : original.tensors()) {
    if (!name.starts_with(linear)) tensors.push_back({name, view});
  }
  tensors.push_back({linear + ".weight", share(Tensor(DType::kF16, original.at(linear + ".weight").shape))});
  write_safetensors(path / "model.safetensors", tensors);
  const auto verdicts = check_deployment(SourceModel(path), "vllm", 1);
  std::filesystem::remove_all(path);
  EXPECT_EQ(of(verdicts, "k_proj").answer, Answer::kFails);
  EXPECT_THAT(of(verdicts, "k_proj").reason, HasSubstr("runs as one with q_proj"));
  EXPECT_EQ(of(verdicts, "q_proj").answer, Answer::kRuns);
  EXPECT_EQ(of(verdicts, "up_proj").answer, Answer::kRuns);
}

TEST(DeployRules, OtherEngines) {
  expect_all(check("gptq-act-order", "vllm"), Answer::kRuns);
  for (const char* engine : {"vllm", "gptqmodel", "transformers"})
    expect_all(check("awq-g32", engine), Answer::kRuns);
  expect_all(check("gptq-act-order", "gptqmodel"), Answer::kRuns);
  expect_all(check("qqq", "gptqmodel"), Answer::kRuns);
  expect_all(check("ct-w4a8", "transformers"), Answer::kRuns);
  expect_all(check("ct-w4a8", "llama.cpp"), Answer::kFails);
  EXPECT_THAT([] { check("qqq", "exllama"); }, testing::ThrowsMessage<Error>(HasSubstr("vllm, gptqmodel")));
  EXPECT_THAT([] { check("qqq", "vllm", 3); },
              testing::ThrowsMessage<Error>(HasSubstr("do not spread over 3 ranks")));
}

}  // namespace
}  // namespace tessera
