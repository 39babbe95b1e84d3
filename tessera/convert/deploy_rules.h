// What other engines run, as far as it is known: data, each rule with its source.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "tessera/convert/source_model.h"

namespace tessera {

/// What one engine asks of the linears of one format. Zero or empty: it does not matter.
struct DeployRule {
  const char* engine;  ///< "vllm", "gptqmodel", "transformers", "llama.cpp"
  const char* format;  ///< as SourceModel::format has it
  int weight_bits = 0;
  int activation_bits = 0;                 ///< 16: inputs in floats
  std::vector<int64_t> group_sizes = {};   ///< -1: one scale an output
  bool zero_points = true;                 ///< are run, too
  bool act_order = true;                   ///< is run, too
  bool static_inputs = true;               ///< one scale for all tokens is run, too
  int64_t k_multiple = 1, n_multiple = 1;  ///< of what one rank holds
  const char* remark = "";                 ///< what else is needed, or is not known
  const char* source = "";                 ///< where the rule is from, and of which version
};

std::span<const DeployRule> deploy_rules();
/// The engines that have rules.
std::vector<std::string> deploy_engines();

struct DeployVerdict {
  enum class Answer : uint8_t { kRuns, kFails, kUnknown };
  SourceModel::Linear linear;
  Answer answer = Answer::kUnknown;
  std::string reason = {};  ///< why not, or the rule's remark
  std::string source = {};
};

/// "runs", "fails", "unknown"
std::string_view name_of(DeployVerdict::Answer answer);

/// Whether `engine` runs each linear of `model` on `ranks` GPUs in tensor parallelism, each of which holds a
/// part of the outputs, or, of linears that follow attention or the MLP's activation, of the inputs. Throws
/// Error when the engine has no rules, or a linear cannot be read.
std::vector<DeployVerdict> check_deployment(const SourceModel& model, const std::string& engine,
                                            int64_t ranks);

}  // namespace tessera
