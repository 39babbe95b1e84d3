// The table of passes.
#include "tessera/quant/passes/pass.h"

#include <algorithm>

#include "tessera/quant/passes/passes.h"

namespace tessera {
namespace {

struct PassEntry {
  PassInfo (*info)();
  std::unique_ptr<Pass> (*make)(const PassOptions&);
};

constexpr PassEntry kPasses[] = {
    {correct_pass_info, make_correct_pass},   {distill_pass_info, make_distill_pass},
    {equalize_pass_info, make_equalize_pass}, {gptq_pass_info, make_gptq_pass},
    {outliers_pass_info, make_outliers_pass}, {reassemble_pass_info, make_reassemble_pass},
    {rotate_pass_info, make_rotate_pass},     {rtn_pass_info, make_rtn_pass},
    {smooth_pass_info, make_smooth_pass},     {tune_pass_info, make_tune_pass}};

}  // namespace

bool PassPlace::follows(const std::string& name) const {
  return std::ranges::any_of(earlier, [&](const auto& pass) { return pass->name() == name; });
}

bool PassPlace::is_quantized() const {
  return std::ranges::any_of(earlier, [](const auto& pass) { return pass->quantizes(); });
}

std::unique_ptr<Pass> make_pass(const nlohmann::json& step) {
  if (!step.is_object() || !step.contains("pass") || !step["pass"].is_string()) {
    throw Error("recipe step {} names no pass; write {{\"pass\": NAME, ...}}", step.dump());
  }
  const auto name = step["pass"].get<std::string>();
  std::string known;
  for (const PassEntry& entry : kPasses) {
    const PassInfo info = entry.info();
    if (info.name == name) return entry.make(PassOptions(info, step));
    known += (known.empty() ? "" : ", ") + info.name;
  }
  throw Error("unknown pass '{}' (known: {})", name, known);
}

std::vector<PassInfo> known_passes() {
  std::vector<PassInfo> infos;
  for (const PassEntry& entry : kPasses) infos.push_back(entry.info());
  return infos;
}

}  // namespace tessera
