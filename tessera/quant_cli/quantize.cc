// tessera quantize: a checkpoint becomes a quantized one.
#include <fmt/format.h>

#include "tessera/base/cpu_info.h"
#include "tessera/base/error.h"
#include "tessera/program/evaluation.h"
#include "tessera/program/terminal.h"
#include "tessera/quant/run/quantizer.h"
#include "tessera/quant_cli/calibration_source.h"
#include "tessera/quant_cli/commands.h"
#include "tessera/quant_cli/ending_line.h"

namespace tessera {
namespace {

constexpr const char* kExample =
    "Examples:\n"
    "  tessera quantize Llama-2-7b -o llama-w4a8                                  calibrated on its own "
    "samples\n"
    "  tessera quantize Llama-2-7b --method qqq -o llama-qqq                      sooner, a little less "
    "exact\n"
    "  tessera quantize Llama-2-7b --method qqq --group-size 128 --calib text.txt --eval test.txt -o "
    "llama-g128\n"
    "  tessera quantize Llama-2-7b --method rtn --bits 8 -o llama-w8a8\n"
    "  tessera quantize Llama-2-7b --method qqq --set smooth=off --set gptq.clip=none --calib text.txt -o "
    "ablation\n"
    "  tessera quantize Llama-2-7b --recipe mine.json --calib text.txt -o out     (tessera methods lists the "
    "passes)\n"
    "An interrupted run goes on with --resume.";

struct Options {
  std::string dir, output, method, recipe_file, eval_file, device = "cpu";
  int bits = 0;
  int64_t group_size = -1;  ///< -1: the recipe's
  std::vector<std::string> settings;
  CalibrationRequest calibration;
  bool resume = false, overwrite = false;
};

/// The recipe before the other options change it.
Recipe named_recipe(const Options& o) {
  if (!o.recipe_file.empty()) return Recipe::load(o.recipe_file);
  if (!o.method.empty() && o.method != kDefaultMethod) return method_recipe(o.method);
  return find_method(kDefaultMethod)
      .with_legal_groups(make_model_spec(ModelConfig::load(o.dir), Checkpoint(o.dir)));
}

Recipe recipe_of(const Options& o) {
  const Recipe recipe = named_recipe(o);
  const WeightScheme& weight = recipe.scheme.weight;
  const int bits = o.bits ? o.bits : weight.bits;
  const int64_t group_size = o.group_size >= 0 ? o.group_size : bits == weight.bits ? weight.group_size : 0;
  return recipe.with_weight(bits, group_size).with_settings(o.settings);
}

void run(const Options& o, const GlobalOptions& global) {
  TerminalReporter reporter(global.quiet);
  const EndingLine ending(fmt::format(
      "interrupted; the same command with --resume goes on, {}.partial keeps what is done", o.output));
  QuantizeOptions options;
  options.model_dir = o.dir;
  options.output_dir = o.output;
  options.recipe = recipe_of(o);
  reporter.note(fmt::format("method {}, {}", options.recipe.name, to_string(options.recipe.scheme)));
  check_recipe(o.dir, options.recipe);
  if (!o.eval_file.empty()) check_text(o.dir, {.file = o.eval_file});
  options.calibration = make_calibration(o.dir, o.calibration);
  options.device = o.device;
  options.resume = o.resume;
  options.overwrite = o.overwrite;
  quantize(options, reporter);
  nlohmann::json result{
      {"output", o.output}, {"recipe", options.recipe.to_json()}, {"peak_memory", peak_memory()}};
  if (!o.eval_file.empty()) {
    result["evaluation"] = evaluate_perplexity({o.dir, o.output}, {.file = o.eval_file}, global, reporter);
  }
  if (global.json) {
    fmt::print("{}\n", json_text(result, 2));
  } else {
    fmt::print("{} is ready; report.json there tells what each layer cost.\n", o.output);
  }
}

}  // namespace

void add_quantize(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command = add_command(app, "quantize", "Quantize a Hugging Face checkpoint");
  auto o = std::make_shared<Options>();
  command->footer(kExample);
  command->add_option("model", o->dir, "Folder or GGUF file of the float checkpoint")->required();
  command->add_option("-o,--output", o->output, "Folder to make")->required();
  auto* method = command->add_option("-m,--method", o->method, "Method: see tessera methods")
                     ->default_str(kDefaultMethod);
  command->add_option("--recipe", o->recipe_file, "A recipe of your own (JSON) instead of a method")
      ->excludes(method);
  command
      ->add_option(
          "--bits", o->bits,
          "Weight bits: 4 or 8, which have one scale an output and no zero points (default: the method's)")
      ->check(CLI::IsMember({4, 8}));
  command->add_option("-g,--group-size", o->group_size,
                      "Inputs that share a weight scale: 128, 64, 32, or 0 for one scale an output channel "
                      "(default: the method's; best-w4a8 takes the largest that fits every layer)");
  command->add_option(
      "--set", o->settings,
      "Change the method: weight.KEY=VALUE, activation.KEY=VALUE, PASS.OPTION=VALUE, PASS=off, PASS=on, "
      "kv_bits=BITS or lm_head=w8a8|float; may be repeated");
  o->calibration.add_to(*command);
  command->add_option("--eval", o->eval_file, "Then measure the perplexity of both models on this text");
  command->add_option("--device", o->device, "Where libtorch calibrates: cpu, cuda, cuda:1")
      ->capture_default_str();
  command->add_flag("--resume", o->resume, "Continue an interrupted run");
  command->add_flag("--overwrite", o->overwrite,
                    "Replace the output folder, and with --resume a run that cannot be continued");
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace tessera
