// Conversion: checks, survey, output, record.
#include "tessera/convert/conversion.h"

#include <algorithm>
#include <future>
#include <tuple>

#include "tessera/base/atomic_folder.h"
#include "tessera/base/atomic_output.h"
#include "tessera/convert/folder_output.h"
#include "tessera/convert/gguf_output.h"

namespace tessera {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr const char* kRecordName = "conversion.json";

/// Of the blocks.
std::vector<foreign::LinearScheme> schemes_of(const SourceModel& model,
                                              const std::vector<LinearOutcome>& outcomes) {
  std::vector<foreign::LinearScheme> schemes;
  schemes.reserve(outcomes.size());
  for (const LinearOutcome& outcome : outcomes) {
    if (outcome.linear.layer < model.spec().n_layers)
      schemes.push_back({outcome.linear.name, outcome.scheme});
  }
  return schemes;
}

ordered_json record_of(const LinearOutcome& outcome) {
  ordered_json record = {{"from", outcome.from}, {"to", outcome.to}, {"exact", outcome.exact()}};
  if (!outcome.exact()) {
    record["rounded_numbers"] = outcome.rounding.changed;
    record["largest_relative_change"] = outcome.rounding.largest;
  }
  return record;
}

}  // namespace

Conversion::Conversion(ConversionOptions options) : options_(std::move(options)), model_(options_.in) {
  std::tie(writer_, write_options_.variant) = foreign::find_writer(options_.target);
  write_options_.round = options_.round;
  write_options_.group_size = options_.group_size;
  if (!options_.out.has_filename()) options_.out = options_.out.parent_path();  // "OUT/"
  require_absent(options_.out);
  std::error_code absent;
  if (fs::equivalent(options_.in, options_.out.string() + ".partial", absent))
    throw Error("{}: would be replaced by an unfinished output; choose another", options_.in.string());
  check_target();
}

void Conversion::check_target() const {
  const std::string where = options_.in.string(), name = writer_->name;
  const auto quantized = [](const SourceModel::Linear& linear) { return linear.quantized; };
  const bool floats = std::ranges::none_of(model_.linears(), quantized);
  if (floats && name != "hf" && name != "gguf")
    throw Error("{}: has no quantized layers, which {} is for; make some with tessera quantize", where, name);
  if (name == "tessera") {
    if (!model_.foreign()) throw Error("{}: is in tessera's format already", where);
    return;
  }
  for (const SourceModel::Linear& linear : model_.linears()) {
    if (linear.quantized && linear.fused_elsewhere) {
      throw Error("{}: other tools hold it in one layer with others of the block; run it with tessera",
                  linear.name);
    }
  }
  if (model_.checkpoint().contains(model_.spec().lm_head_bias())) {
    throw Error("{}: {} comes from a rotation, and no Hugging Face architecture has it; quantize without one",
                where, model_.spec().lm_head_bias());
  }
  if (!writer_->folder()) check_gguf(model_);
}

/// Codes of lm_head have a type of their own in GGUF, and become floats for tools that want it so.
LinearOutcome Conversion::plan(const SourceModel::Linear& linear) const {
  LinearOutcome outcome{
      .linear = linear, .writer = writer_, .options = write_options_, .from = "float", .to = "float"};
  if (linear.layer < model_.spec().n_layers || !linear.quantized) return outcome;
  if (writer_->float_head) std::tie(outcome.writer, outcome.options.variant) = foreign::find_writer("hf:f32");
  if (!writer_->folder() && write_options_.variant.starts_with('q')) outcome.options.variant = "auto";
  return outcome;
}

std::vector<LinearOutcome> Conversion::survey(Reporter& reporter) const {
  std::vector<LinearOutcome> outcomes;
  for (const SourceModel::Linear& linear : model_.linears()) {
    LinearOutcome outcome = plan(linear);
    if (linear.quantized) {
      const QuantizedLinear loaded = model_.load(linear);
      outcome.from = describe(loaded);
      try {
        const foreign::WrittenLinear written =
            outcome.writer->write(loaded, model_.where(linear), outcome.options);
        outcome.to = written.form;
        outcome.rounding = written.rounding;
        outcome.scheme = written.scheme;
      } catch (const Error& e) {
        outcome.to = "";
        outcome.refusal = e.what();
      }
    }
    outcomes.push_back(std::move(outcome));
    reporter.progress("checking, linears", std::ssize(outcomes), std::ssize(model_.linears()));
  }
  const auto refused = [](const LinearOutcome& outcome) { return !outcome.refusal.empty(); };
  if (writer_->folder() && std::ranges::none_of(outcomes, refused))
    writer_->config(schemes_of(model_, outcomes));  // throws for layers that do not go together
  return outcomes;
}

void Conversion::write(const std::vector<LinearOutcome>& outcomes, Reporter& reporter) const {
  for (const LinearOutcome& outcome : outcomes) {
    if (!outcome.refusal.empty()) throw Error("{}", outcome.refusal);
  }
  ordered_json record = {{"tool", "tessera " TESSERA_VERSION}, {"to", options_.target}};
  record["input"] = {{"format", model_.format()}};
  for (const LinearOutcome& outcome : outcomes) record["linears"][outcome.linear.name] = record_of(outcome);
  std::future<ordered_json> digests = std::async(std::launch::async, [this] {  // takes as long as writing
    ordered_json sha256 = ordered_json::object();
    for (const fs::path& file : model_.checkpoint().files())
      sha256[file.filename().string()] = digest_file(file).sha256;
    return sha256;
  });
  const auto text = [&] {
    record["input"]["sha256"] = digests.get();
    return json_text(record, 2) + "\n";
  };

  if (writer_->folder()) {
    const json section = writer_->config(schemes_of(model_, outcomes));
    AtomicFolder folder(options_.out);
    write_folder(model_, outcomes, *writer_, write_options_.variant, section, folder, reporter);
    write_file(folder.file(kRecordName), text());
    folder.commit();
  } else {
    write_gguf_file(model_, outcomes, options_.out, reporter);
    write_file(options_.out.string() + "." + kRecordName, text());
  }
}

}  // namespace tessera
