// tessera convert: writes a model in another tool's format.
#include "tessera/convert/conversion.h"

#include <fmt/format.h>

#include <algorithm>

#include "tessera/base/heap.h"
#include "tessera/cli/commands.h"
#include "tessera/program/terminal.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr const char* kExample =
    "Examples:\n"
    "  tessera convert llama-qqq llama-ct --to compressed-tensors     for vLLM\n"
    "  tessera convert llama-qqq llama.gguf --to gguf --dry-run       what would become of every layer\n"
    "  tessera convert Llama-2-7b-GPTQ llama-ours --to tessera\n"
    "Formats:\n";

std::string exactness(const LinearOutcome& outcome) {
  if (!outcome.refusal.empty()) return outcome.refusal;
  if (outcome.exact()) return "exact";
  return fmt::format("{} numbers rounded, by at most {:.2g}", outcome.rounding.changed,
                     outcome.rounding.largest);
}

void print_outcomes(const std::vector<LinearOutcome>& outcomes) {
  Table table({"layer", "from", "to", "weights"});
  for (const LinearOutcome& o : outcomes) table.add({o.linear.name, o.from, o.to, exactness(o)});
  fmt::print("{}", table.text());
}

json outcomes_json(const std::vector<LinearOutcome>& outcomes) {
  json layers = json::array();
  for (const LinearOutcome& o : outcomes) {
    json layer = {{"name", o.linear.name}, {"from", o.from}, {"to", o.to}, {"exact", o.exact()}};
    if (!o.refusal.empty()) layer["refusal"] = o.refusal;
    layer["rounded_numbers"] = o.rounding.changed;
    layer["largest_relative_change"] = o.rounding.largest;
    layers.push_back(layer);
  }
  return layers;
}

/// "70 of 70 linears exact"
std::string summary(const std::vector<LinearOutcome>& outcomes) {
  const auto count = [&](const auto& wanted) { return std::ranges::count_if(outcomes, wanted); };
  std::string text = fmt::format("{} of {} linears exact", count(&LinearOutcome::exact), outcomes.size());
  if (const auto refused = count([](const LinearOutcome& o) { return !o.refusal.empty(); }); refused > 0)
    text += fmt::format(", {} refused", refused);
  const auto largest = [](const LinearOutcome& o) { return o.rounding.largest; };
  if (const double change = largest(*std::ranges::max_element(outcomes, {}, largest)); change > 0)
    text += fmt::format(", numbers rounded by at most {:.2g} of themselves", change);
  return text;
}

}  // namespace

void add_convert(CLI::App& app, const GlobalOptions& global) {
  struct Options {
    ConversionOptions conversion;
    std::string in, out;
    bool exact = false, dry_run = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command =
      add_command(app, "convert",
                  "Write a model in another tool's format, every weight as it is, or say which cannot be");
  command->footer(kExample + foreign::list_writers());
  command->add_option("model", o->in, "Model folder or GGUF file")->required();
  command->add_option("out", o->out, "Output: a folder, or the GGUF file; must not be there")->required();
  command->add_option("--to", o->conversion.target, "Format, or FORMAT:VARIANT")->required();
  CLI::Option* exact = command->add_flag("--exact", o->exact,
                                         "Refuse numbers that the format cannot hold exactly (the default)");
  command->add_flag("--round", o->conversion.round, "Round such numbers and count them")->excludes(exact);
  command
      ->add_option("--group-size", o->conversion.group_size, "Inputs a group (default: those of each layer)")
      ->check(CLI::Range(int64_t{8}, int64_t{1} << 20));
  command->add_flag("--dry-run", o->dry_run, "Print what becomes of every layer and write nothing");
  command->callback([o, &global] {
    // Freed tensors go back to the system at once; the heap would keep them under small blocks that live on.
    limit_heap_blocks(size_t{1} << 20);
    TerminalReporter reporter(global.quiet);
    o->conversion.in = o->in;
    o->conversion.out = o->out;
    const Conversion conversion(o->conversion);
    const std::vector<LinearOutcome> outcomes = conversion.survey(reporter);
    if (!o->dry_run) conversion.write(outcomes, reporter);
    if (global.json) {
      fmt::print(
          "{}\n",
          json_text(json{{"from", conversion.model().format()}, {"linears", outcomes_json(outcomes)}}, 2));
      return;
    }
    if (o->dry_run) print_outcomes(outcomes);
    fmt::print("{} -> {}: {}{}\n", conversion.model().format(), o->conversion.target, summary(outcomes),
               o->dry_run ? "; nothing was written" : "");
  });
}

}  // namespace tessera
