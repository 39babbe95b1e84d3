// Checks of model, calibration, memory and device.
#include "tessera/quant/run/run_checks.h"

#include <algorithm>
#include <set>

#include "tessera/base/cpu_info.h"
#include "tessera/base/error.h"
#include "tessera/format/load_linear.h"

namespace tessera {

void check_source_model(const ModelConfig& config, const ModelSpec& spec, const Checkpoint& checkpoint) {
  check_tensors(spec, checkpoint);
  if (is_quantized(checkpoint, spec.lm_head_name()))
    throw Error("{}: {} holds codes; quantize a model whose lm_head is float", checkpoint.dir().string(),
                spec.lm_head_name());
  const bool codes = std::ranges::any_of(checkpoint.tensors(), [&](const auto& named) {
    return is_quantized(checkpoint, named.first.substr(0, named.first.rfind('.')));
  });
  const auto quantization = read_quantization_config(config);
  if (quantization ? static_cast<bool>(quantization->read_linear) : !codes) return;
  throw Error("{}: is quantized already; quantize the float model instead", checkpoint.dir().string());
}

void check_passes(const std::string& recipe, const ModelSpec& spec, const PerLinear<LinearScheme>& schemes,
                  std::span<const std::unique_ptr<Pass>> passes) {
  if (std::ranges::none_of(passes, [](const auto& pass) { return pass->quantizes(); })) {
    throw Error("recipe {}: no pass quantizes; end it with rtn or gptq", recipe);
  }
  if (std::ranges::count_if(passes, [](const auto& pass) { return pass->group_blocks() > 0; }) > 1) {
    throw Error("recipe {}: only one pass can work on groups of blocks", recipe);
  }
  const auto changes_norm =
      std::ranges::find_if(passes, [](const auto& p) { return p->changes_final_norm(); });
  if (changes_norm != passes.end() &&
      std::ranges::any_of(passes, [](const auto& pass) { return pass->unties_embedding(); })) {
    throw Error("recipe {}: rotation folds the final norm into lm_head; set final_norm of {} to false",
                recipe, (*changes_norm)->name());
  }
  bool quantized = false;
  for (size_t i = 0; i < passes.size(); ++i) {
    passes[i]->check({spec, schemes, passes.first(i)});
    quantized = quantized || passes[i]->quantizes();
    if (!quantized || passes[i]->quantizes() || passes[i]->refines()) continue;
    throw Error("recipe {}: {} works on floats; put it in front of the pass that quantizes", recipe,
                passes[i]->name());
  }
}

void check_calibration(const ModelSpec& spec, std::span<const std::unique_ptr<Pass>> passes,
                       const CalibrationSet& calibration) {
  const int64_t tokens = calibration.window_tokens();
  if (calibration.window_count() == 0 || tokens == 0)
    throw Error("no calibration text: at least one window of one token is needed");
  const std::set<std::vector<int32_t>> distinct(calibration.windows.begin(), calibration.windows.end());
  const int64_t windows =
      calibration.windows.empty() ? calibration.window_count() : static_cast<int64_t>(distinct.size());
  for (const auto& pass : passes) {
    if (windows >= pass->least_windows()) continue;
    throw Error(
        "{} needs {} different calibration windows at least, to train on some and judge by others; use more "
        "text",
        pass->name(), pass->least_windows());
  }
  if (tokens > spec.max_positions) {
    throw Error("calibration windows of {} tokens exceed the model's context of {}; use shorter ones", tokens,
                spec.max_positions);
  }
  for (const auto& window : calibration.windows) {
    if (static_cast<int64_t>(window.size()) != tokens) throw Error("calibration windows differ in length");
    const auto [lowest, highest] = std::ranges::minmax(window);
    if (lowest >= 0 && highest < spec.vocab_size) continue;
    throw Error("calibration token {} is outside the vocabulary of {}; use this model's tokenizer",
                lowest < 0 ? lowest : highest, spec.vocab_size);
  }
}

std::string calibration_warning(const ModelSpec& spec, int64_t window_tokens) {
  if (spec.positions != Positions::kLearned || window_tokens == spec.max_positions) return {};
  return fmt::format(
      "warning: this model has learned positions, and calibration windows of {} tokens show only the first "
      "{} of "
      "{}; fewer windows of {} tokens are better",
      window_tokens, window_tokens, spec.max_positions, spec.max_positions);
}

void check_memory(const MemoryPlan& plan) {
  const size_t available = available_memory();
  if (available == 0 || plan.added() <= available) return;
  throw Error("the run needs {} MB of memory, {} MB are available; use fewer or shorter calibration windows",
              plan.added() / 1000000, available / 1000000);
}

void check_disk(const DiskPlan& plan, const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  uint64_t there = 0;
  fs::path existing = fs::absolute(folder);
  while (!fs::exists(existing)) existing = existing.parent_path();
  if (fs::is_directory(folder)) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.is_regular_file()) there += entry.file_size();
    }
  }
  std::error_code unknown;
  const fs::space_info space = fs::space(existing, unknown);
  if (unknown || space.capacity == 0 || space.available + there >= plan.total()) return;
  throw Error("{}: the run needs about {} MB, the disk has {} MB free", folder.string(),
              (plan.total() - there) / 1000000, space.available / 1000000);
}

at::Device parse_device(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  const std::string index = name.starts_with("cuda:") ? name.substr(5) : "0";
  const bool digits = !index.empty() && index.size() < 4 &&
                      std::ranges::all_of(index, [](char c) { return c >= '0' && c <= '9'; });
  if ((name != "cuda" && !name.starts_with("cuda:")) || !digits) {
    throw Error("device '{}' is not known (cpu, cuda, cuda:N)", name);
  }
  if (!at::hasCUDA()) throw Error("device '{}': this libtorch has no CUDA device; use cpu", name);
#ifndef TESSERA_GPU_LOOPS
  throw Error("device '{}': this program was built without nvcc for a libtorch without CUDA; use cpu", name);
#endif
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(std::stoi(index)));
}

}  // namespace tessera
