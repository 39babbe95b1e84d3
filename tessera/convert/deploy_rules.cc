// The rules, and their application.
#include "tessera/convert/deploy_rules.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

namespace tessera {
namespace {

using Answer = DeployVerdict::Answer;

constexpr const char* kVllm = "vLLM's compressed_tensors schemes and kernels, 2026";
constexpr const char* kVllmDocs = "vLLM's documentation, supported hardware of quantization, 2026";
constexpr const char* kGptqModel = "GPTQModel 7.7.0, nn_modules/qlinear";
constexpr const char* kTransformers = "Transformers 5.24.0, quantizers";
constexpr const char* kLlamaCpp = "ggml, 2026-08";

const std::vector<DeployRule> kRules = {
    {.engine = "vllm",
     .format = "compressed-tensors",
     .weight_bits = 4,
     .activation_bits = 8,
     .zero_points = false,
     .act_order = false,
     .static_inputs = false,
     .remark = "compute capability 7.5 or later; whether biases are added is not known",
     .source = kVllm},
    {.engine = "vllm",
     .format = "compressed-tensors",
     .weight_bits = 4,
     .activation_bits = 4,
     .zero_points = false,
     .act_order = false,
     .static_inputs = false,
     .remark = "compute capability 7.5 or later",
     .source = kVllm},
    {.engine = "vllm",
     .format = "compressed-tensors",
     .weight_bits = 8,
     .activation_bits = 8,
     .group_sizes = {-1},
     .zero_points = false,
     .remark = "compute capability 7.5 or later, or an x86 CPU",
     .source = kVllm},
    {.engine = "vllm",
     .format = "compressed-tensors",
     .weight_bits = 4,
     .activation_bits = 16,
     .group_sizes = {-1, 32, 64, 128},
     .k_multiple = 128,
     .n_multiple = 64,
     .remark = "sizes as Marlin wants them",
     .source = kVllm},
    {.engine = "vllm",
     .format = "compressed-tensors",
     .weight_bits = 8,
     .activation_bits = 16,
     .group_sizes = {-1, 32, 64, 128},
     .k_multiple = 128,
     .n_multiple = 64,
     .remark = "sizes as Marlin wants them",
     .source = kVllm},
    {.engine = "vllm",
     .format = "gptq",
     .remark = "sizes that its kernels take are not checked",
     .source = kVllmDocs},
    {.engine = "vllm",
     .format = "awq",
     .remark = "sizes that its kernels take are not checked",
     .source = kVllmDocs},
    {.engine = "vllm", .format = "gguf", .remark = "NVIDIA and AMD GPUs", .source = kVllmDocs},
    {.engine = "vllm", .format = "float", .source = kVllm},
    {.engine = "gptqmodel", .format = "gptq", .remark = "other sizes are padded", .source = kGptqModel},
    {.engine = "gptqmodel",
     .format = "qqq",
     .weight_bits = 4,
     .activation_bits = 8,
     .group_sizes = {-1, 128},
     .zero_points = false,
     .act_order = false,
     .k_multiple = 64,
     .n_multiple = 64,
     .source = kGptqModel},
    {.engine = "transformers",
     .format = "compressed-tensors",
     .remark = "dequantized to floats when it is loaded",
     .source = kTransformers},
    {.engine = "transformers", .format = "gptq", .remark = "through GPTQModel", .source = kTransformers},
    {.engine = "transformers", .format = "float", .source = kTransformers},
    {.engine = "llama.cpp", .format = "gguf", .source = kLlamaCpp}};

/// What a rule looks at.
struct Facts {
  int weight_bits = 16, activation_bits = 16;
  int64_t group_size = -1;
  bool zero_points = false, act_order = false, static_inputs = false;
};

Facts facts_of(const SourceModel& model, const SourceModel::Linear& linear) {
  if (!linear.quantized) return {};
  const QuantizedLinear l = model.load(linear);
  return {.weight_bits = weight_bits(l.weight_format),
          .activation_bits = l.activation.bits,
          .group_size = l.groups() > 1 ? l.group_size : -1,
          .zero_points = !l.group_zero.empty(),
          .act_order = !l.input_index.empty(),
          .static_inputs = !l.activation.weight_only() && !l.activation.per_token};
}

bool speaks_of(const DeployRule& rule, const Facts& facts) {
  return (rule.weight_bits == 0 || rule.weight_bits == facts.weight_bits) &&
         (rule.activation_bits == 0 || rule.activation_bits == facts.activation_bits);
}

/// Why the rule is not met; nothing where it is. `k` and `n` are what a rank holds.
std::optional<std::string> objection(const DeployRule& rule, const Facts& facts, int64_t k, int64_t n) {
  if (!rule.group_sizes.empty() &&
      std::ranges::find(rule.group_sizes, facts.group_size) == rule.group_sizes.end())
    return fmt::format("groups of {} inputs; it runs {} (-1: one scale an output)", facts.group_size,
                       fmt::join(rule.group_sizes, ", "));
  if (facts.zero_points && !rule.zero_points) return "zero points of weights";
  if (facts.act_order && !rule.act_order) return "act-order";
  if (facts.static_inputs && !rule.static_inputs) return "static scales of inputs; it runs dynamic ones";
  if (k % rule.k_multiple != 0)
    return fmt::format("{} inputs on a rank, no multiple of {}", k, rule.k_multiple);
  if (n % rule.n_multiple != 0)
    return fmt::format("{} outputs on a rank, no multiple of {}", n, rule.n_multiple);
  return {};
}

/// The linear's inputs are split over the ranks, not its outputs.
bool splits_inputs(const ModelSpec& spec, const std::string& linear) {
  return std::ranges::any_of(spec.linears, [&](const LinearSpec& l) {
    return (l.role == kO || l.role == kDown) && linear.ends_with("." + l.name);
  });
}

DeployVerdict judge(const SourceModel& model, const SourceModel::Linear& linear, const std::string& engine,
                    int64_t ranks) {
  DeployVerdict verdict{.linear = linear};
  const auto fail = [&](std::string reason) {
    verdict.answer = Answer::kFails;
    verdict.reason = std::move(reason);
    return verdict;
  };
  const std::string format = model.format();
  const auto reads = [&](const DeployRule& rule) { return engine == rule.engine && format == rule.format; };
  if (std::ranges::none_of(kRules, reads))
    return fail(fmt::format("{} does not read {}, as far as is known; tessera convert writes other formats",
                            engine, format));
  const Facts facts = facts_of(model, linear);
  const auto rule =
      std::ranges::find_if(kRules, [&](const DeployRule& r) { return reads(r) && speaks_of(r, facts); });
  const bool by_inputs = splits_inputs(model.spec(), linear.name);
  const int64_t split = by_inputs ? linear.k : linear.n;
  if (split % ranks != 0)
    return fail(fmt::format("{} {} on {} ranks", split, by_inputs ? "inputs" : "outputs", ranks));
  const int64_t k = by_inputs ? linear.k / ranks : linear.k, n = by_inputs ? linear.n : linear.n / ranks;
  if (facts.group_size > 0 && k % facts.group_size != 0)
    return fail(fmt::format("{} inputs on a rank, no multiple of the group size {}", k, facts.group_size));
  if (rule == kRules.end()) {
    if (!linear.quantized) {  // left in floats beside quantized ones
      verdict.answer = Answer::kRuns;
      return verdict;
    }
    verdict.reason = fmt::format("no rule for {}-bit weights with {}-bit inputs", facts.weight_bits,
                                 facts.activation_bits);
    return verdict;
  }
  verdict.source = rule->source;
  if (const auto reason = objection(*rule, facts, k, n)) return fail(*reason);
  verdict.answer = Answer::kRuns;
  verdict.reason = rule->remark;
  return verdict;
}

}  // namespace

std::span<const DeployRule> deploy_rules() {
  return kRules;
}

std::vector<std::string> deploy_engines() {
  std::vector<std::string> engines;
  for (const DeployRule& rule : kRules) {
    if (std::ranges::find(engines, rule.engine) == engines.end()) engines.emplace_back(rule.engine);
  }
  return engines;
}

std::string_view name_of(DeployVerdict::Answer answer) {
  return answer == Answer::kRuns ? "runs" : answer == Answer::kFails ? "fails" : "unknown";
}

std::vector<DeployVerdict> check_deployment(const SourceModel& model, const std::string& engine,
                                            int64_t ranks) {
  const std::vector<std::string> engines = deploy_engines();
  if (std::ranges::find(engines, engine) == engines.end())
    throw Error("'{}' is no engine that tessera has rules for ({})", engine, fmt::join(engines, ", "));
  const ModelSpec& spec = model.spec();
  if (spec.n_heads % ranks != 0 || (spec.n_kv_heads % ranks != 0 && ranks % spec.n_kv_heads != 0)) {
    throw Error("{}: {} heads and {} key-value heads do not spread over {} ranks", model.config().file(),
                spec.n_heads, spec.n_kv_heads, ranks);
  }
  std::vector<DeployVerdict> verdicts;
  for (const SourceModel::Linear& linear : model.linears())
    verdicts.push_back(judge(model, linear, engine, ranks));
  return verdicts;
}

}  // namespace tessera
