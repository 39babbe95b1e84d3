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
constexpr const char* kVllmModels = "vLLM's model definitions, packed_modules_mapping, 2026";
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
    {.engine = "gptqmodel", .format = "awq", .source = kGptqModel},
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
    {.engine = "transformers",
     .format = "gptq",
     .remark = "through Optimum and GPTQModel",
     .source = kTransformers},
    {.engine = "transformers", .format = "awq", .remark = "through GPTQModel", .source = kTransformers},
    {.engine = "transformers", .format = "float", .source = kTransformers},
    {.engine = "llama.cpp", .format = "gguf", .source = kLlamaCpp}};

/// Linears that an engine runs as one, so that they must be quantized in one way.
struct FusedSet {
  const char* engine;
  std::vector<LinearRole> roles;
  const char* source;
};

const std::vector<FusedSet> kFusedSets = {{"vllm", {kQ, kK, kV}, kVllmModels},
                                          {"vllm", {kGate, kUp}, kVllmModels}};

/// What a rule looks at.
struct Facts {
  int weight_bits = 16, activation_bits = 16;
  int64_t group_size = -1;
  bool zero_points = false, act_order = false, static_inputs = false;

  friend bool operator==(const Facts&, const Facts&) = default;
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
      std::ranges::find(rule.group_sizes, facts.group_size) == rule.group_sizes.end()) {
    return fmt::format("groups of {} inputs; it runs {} (-1: one scale an output)", facts.group_size,
                       fmt::join(rule.group_sizes, ", "));
  }
  if (facts.zero_points && !rule.zero_points) return "zero points of weights";
  if (facts.act_order && !rule.act_order) return "act-order";
  if (facts.static_inputs && !rule.static_inputs) return "static scales of inputs; it runs dynamic ones";
  if (k % rule.k_multiple != 0)
    return fmt::format("{} inputs on a rank, no multiple of {}", k, rule.k_multiple);
  if (n % rule.n_multiple != 0)
    return fmt::format("{} outputs on a rank, no multiple of {}", n, rule.n_multiple);
  return {};
}

/// Of a linear that has a tensor of its own.
std::optional<LinearRole> role_of(const ModelSpec& spec, const SourceModel::Linear& linear) {
  const auto found = std::ranges::find_if(
      spec.linears, [&](const LinearSpec& l) { return linear.name.ends_with("." + l.name); });
  if (found == spec.linears.end()) return {};
  return found->role;
}

DeployVerdict judge(const SourceModel& model, const SourceModel::Linear& linear, const Facts& facts,
                    const std::string& engine, int64_t ranks) {
  DeployVerdict verdict{.linear = linear};
  const auto fail = [&](std::string reason) {
    verdict.answer = Answer::kFails;
    verdict.reason = std::move(reason);
    return verdict;
  };
  const std::string format = model.format();
  const auto reads = [&](const DeployRule& rule) { return engine == rule.engine && format == rule.format; };
  if (std::ranges::none_of(kRules, reads)) {
    return fail(fmt::format("{} does not read {}, as far as is known; tessera convert writes other formats",
                            engine, format));
  }
  const auto rule =
      std::ranges::find_if(kRules, [&](const DeployRule& r) { return reads(r) && speaks_of(r, facts); });
  const auto role = role_of(model.spec(), linear);
  const bool by_inputs = role == kO || role == kDown;  // what is split over the ranks
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

/// The linears of `set` in one block.
void judge_together(const SourceModel& model, const FusedSet& set, std::span<const Facts> facts,
                    std::span<DeployVerdict> block) {
  std::optional<size_t> first;
  for (size_t i = 0; i < block.size(); ++i) {
    const auto role = role_of(model.spec(), block[i].linear);
    if (!role || std::ranges::find(set.roles, *role) == set.roles.end()) continue;
    if (!first) first = i;
    if (facts[i] == facts[*first]) continue;
    block[i].answer = Answer::kFails;
    block[i].reason = fmt::format("runs as one with {}, which is quantized in another way",
                                  last_component(block[*first].linear.name));
    block[i].source = set.source;
  }
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
  std::vector<Facts> facts;
  for (const SourceModel::Linear& linear : model.linears()) {
    facts.push_back(facts_of(model, linear));
    verdicts.push_back(judge(model, linear, facts.back(), engine, ranks));
  }
  const size_t block = model.linears().size() / static_cast<size_t>(spec.n_layers);
  for (size_t first = 0; first < verdicts.size(); first += block) {
    for (const FusedSet& set : kFusedSets) {
      if (engine == set.engine) {
        judge_together(model, set, std::span(facts).subspan(first, block),
                       std::span(verdicts).subspan(first, block));
      }
    }
  }
  return verdicts;
}

}  // namespace tessera
