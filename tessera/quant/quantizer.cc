// The run: checks, outer tensors, then block by block passes, shard, streams, journal.
#include "tessera/quant/quantizer.h"

#include <ATen/Parallel.h>
#include <torch/version.h>

#include <algorithm>
#include <chrono>

#include "tessera/base/atomic_output.h"
#include "tessera/base/cpu_info.h"
#include "tessera/base/error.h"
#include "tessera/base/hash.h"
#include "tessera/base/mapped_file.h"
#include "tessera/base/parallel.h"
#include "tessera/quant/channel_profile.h"
#include "tessera/quant/checkpoint_writer.h"
#include "tessera/quant/fake_quant.h"
#include "tessera/quant/heap.h"
#include "tessera/quant/journal.h"
#include "tessera/quant/progress_meter.h"
#include "tessera/quant/run_checks.h"
#include "tessera/quant/shards.h"
#include "tessera/quant/streams.h"

namespace tessera {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr int kFormatVersion = 1;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// libtorch's messages carry a stack trace.
std::string one_line(const std::exception& e) {
  const auto* torch = dynamic_cast<const c10::Error*>(&e);
  const std::string text = torch ? torch->what_without_backtrace() : e.what();
  return text.substr(0, text.find('\n'));
}

std::string hash_windows(const CalibrationSet& calibration) {
  Sha256 hash;
  for (const auto& window : calibration.windows) {
    hash.update(fmt::format("{} ", window.size()));
    hash.update(std::as_bytes(std::span(window)));
  }
  return hash.hex();
}

/// What the result depends on.
Fingerprint fingerprint_of(const QuantizeOptions& options, const Checkpoint& checkpoint) {
  return {{"recipe", options.recipe.to_json().dump()},
          {"calibration", hash_windows(options.calibration)},
          {"model", hash_model(checkpoint)},
          {"program version", TESSERA_VERSION},
          {"device", parse_device(options.device).is_cpu() ? "cpu" : "cuda"}};
}

std::vector<std::unique_ptr<Pass>> make_passes(const Recipe& recipe) {
  std::vector<std::unique_ptr<Pass>> passes;
  for (const json& step : recipe.passes) passes.push_back(make_pass(step));
  return passes;
}

/// Index of the pass that works on groups of blocks; the number of passes where there is none.
size_t find_group_pass(const std::string& recipe, const std::vector<std::unique_ptr<Pass>>& passes) {
  const auto on_groups = [](const auto& pass) { return pass->group_blocks() > 0; };
  if (std::ranges::count_if(passes, on_groups) > 1) {
    throw Error("recipe {}: only one pass can work on groups of blocks", recipe);
  }
  return static_cast<size_t>(std::ranges::find_if(passes, on_groups) - passes.begin());
}

class Run {
 public:
  /// Checks all that can be checked. Writes nothing.
  Run(const QuantizeOptions& options, Reporter& reporter);
  void execute();

 private:
  uint64_t disk_bytes() const;
  Journal open_journal();
  void discard_unfinished(int64_t finished_blocks);
  void quantize_blocks(Journal& journal);
  void start_streams();
  std::vector<json> quantize_group(int64_t first, int64_t count, ProgressMeter& meter);
  void prepare_block(BlockContext& context, ProgressMeter& meter);
  json finish_block(BlockContext& context, ProgressMeter& meter);
  void run_pass(Pass& pass, BlockContext& context, ProgressMeter& meter);
  void write_report(const Journal& journal);
  json quantization_config() const;

  bool unties_embedding() const {
    return std::ranges::any_of(passes_, [](const auto& pass) { return pass->unties_embedding(); });
  }
  int64_t windows() const { return static_cast<int64_t>(options_.calibration.windows.size()); }
  int64_t tokens() const { return options_.calibration.window_tokens(); }
  /// Blocks that are worked on together.
  int64_t group_blocks() const {
    return group_pass_ < passes_.size() ? passes_[group_pass_]->group_blocks() : 1;
  }
  int64_t shards() const { return spec_.n_layers + 1; }  // the first holds what is outside the blocks
  fs::path streams_file(int64_t finished_blocks) const {
    return writer_.partial() / fmt::format("streams-{:05}.safetensors", finished_blocks);
  }

  const QuantizeOptions& options_;
  Reporter& reporter_;
  at::Device device_;
  ModelConfig config_;
  Checkpoint checkpoint_;
  ModelSpec spec_;
  std::array<LinearScheme, kLinearCount> schemes_;
  std::vector<std::unique_ptr<Pass>> passes_;
  size_t group_pass_;  ///< index of the pass that works on groups of blocks; their number where there is none
  CheckpointWriter writer_;
  MemoryPlan memory_;
  Fingerprint fingerprint_;
  Streams streams_;  ///< inputs of the next block
};

Run::Run(const QuantizeOptions& options, Reporter& reporter)
    : options_(options),
      reporter_(reporter),
      device_(parse_device(options.device)),
      config_(ModelConfig::load(options.model_dir)),
      checkpoint_(options.model_dir),
      spec_(make_model_spec(config_, checkpoint_)),
      schemes_(options.recipe.schemes(spec_)),
      passes_(make_passes(options.recipe)),
      group_pass_(find_group_pass(options.recipe.name, passes_)),
      writer_(options.output_dir, options.model_dir, options.overwrite) {
  check_float_model(config_, spec_, checkpoint_);
  check_calibration(spec_, options.calibration);
  if (const std::string warning = calibration_warning(spec_, tokens()); !warning.empty())
    reporter.note(warning);
  memory_ = plan_memory(spec_, checkpoint_, passes_, windows(), tokens());
  reporter.note(memory_.to_string());
  if (device_.is_cpu()) check_memory(memory_);
  fingerprint_ = fingerprint_of(options, checkpoint_);
}

/// An upper bound: the result is smaller than the source unless what is outside the blocks turns into F32,
/// and the streams exist twice for a moment.
uint64_t Run::disk_bytes() const {
  uint64_t source = 0;
  for (const fs::path& file : checkpoint_.files()) source += fs::file_size(file);
  const auto floats = [](int64_t count) { return static_cast<uint64_t>(count) * sizeof(float); };
  const uint64_t outer = unties_embedding() ? floats(outer_elements(checkpoint_, spec_)) : 0;
  return source + outer + 4 * floats(windows() * tokens() * spec_.hidden_size);
}

void Run::execute() {
  Journal journal = open_journal();
  try {
    quantize_blocks(journal);
    writer_.write_metadata(shards(), quantization_config(), unties_embedding());
    write_report(journal);
    fs::remove(streams_file(spec_.n_layers));
    journal.remove();
    writer_.publish();
  } catch (const std::exception& e) {
    if (journal.finished_blocks() == 0) {
      fs::remove_all(writer_.partial());
      throw;
    }
    throw Error("{} ({} of {} blocks are kept in {}; continue with --resume)", one_line(e),
                journal.finished_blocks(), spec_.n_layers, writer_.partial().string());
  }
}

Journal Run::open_journal() {
  if (writer_.has_partial() && options_.resume) {
    Journal journal = Journal::resume(writer_.partial(), fingerprint_);
    discard_unfinished(journal.finished_blocks());
    reporter_.note(fmt::format("resuming after {} of {} blocks", journal.finished_blocks(), spec_.n_layers));
    return journal;
  }
  if (writer_.has_partial() && !options_.overwrite) {
    throw Error("{}: holds an interrupted run; continue it with --resume or discard it with --overwrite",
                writer_.partial().string());
  }
  if (options_.resume) reporter_.note("nothing to resume, starting with the first block");
  writer_.start(disk_bytes());
  return Journal::start(writer_.partial(), fingerprint_);
}

void Run::discard_unfinished(int64_t finished_blocks) {
  std::set<std::string> finished = {Journal::kFileName, streams_file(finished_blocks).filename().string()};
  for (int64_t i = 0; i <= finished_blocks; ++i) finished.insert(CheckpointWriter::shard_name(i, shards()));
  writer_.keep_only(finished);
}

void Run::quantize_blocks(Journal& journal) {
  const int64_t finished = journal.finished_blocks();
  if (finished == 0) {
    start_streams();
  } else {
    streams_ = Streams::load(streams_file(finished), {windows(), tokens(), spec_.hidden_size}, device_);
  }
  const int64_t group = group_blocks();
  const size_t steps = static_cast<size_t>(group) * (passes_.size() + 1);
  ProgressMeter meter(reporter_, (spec_.n_layers + group - 1) / group, finished / group, steps);
  for (int64_t first = finished; first < spec_.n_layers; first += group) {
    const int64_t count = std::min(group, spec_.n_layers - first);
    std::vector<json> reports = quantize_group(first, count, meter);
    streams_.save(streams_file(first + count));
    journal.append(std::move(reports));
    fs::remove(streams_file(first));
    meter.finish_group();
  }
}

/// Writes the first shard; the streams start at the embeddings that it holds.
void Run::start_streams() {
  Shard shard;
  if (unties_embedding()) {
    OuterWeights outer = load_outer(checkpoint_, spec_, device_);
    for (const auto& pass : passes_) pass->run_on_outer(spec_, outer);
    json untied = config_.values();
    untied["tie_word_embeddings"] = false;
    shard = outer_shard(make_model_spec({untied, config_.file()}, checkpoint_), outer);
  } else {
    shard = outer_shard(checkpoint_, spec_);
  }
  writer_.write_shard(0, shards(), shard.tensors());
  const auto written = [&](const std::string& name) -> const TensorView& { return shard.at(name); };
  streams_.x_float = embed_windows(spec_, written, options_.calibration.windows, device_);
  streams_.x_quant = streams_.x_float.clone();
  for (const auto& [name, tensor] : checkpoint_.tensors()) release_pages({tensor.data, tensor.bytes()});
}

std::vector<json> Run::quantize_group(int64_t first, int64_t count, ProgressMeter& meter) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<BlockContext> blocks;
  for (int64_t layer = first; layer < first + count; ++layer) {
    blocks.push_back({.spec = spec_,
                      .layer = layer,
                      .schemes = schemes_,
                      .x_float = {},
                      .x_quant = {},
                      .block = load_block(checkpoint_, spec_, layer, device_),
                      .quantized = {},
                      .report = json::object(),
                      .reporter = reporter_});
  }
  for (BlockContext& block : blocks) prepare_block(block, meter);
  if (group_pass_ < passes_.size()) {
    GroupContext group{spec_, blocks, streams_.x_quant, streams_.x_float, reporter_};
    passes_[group_pass_]->run_on_group(group);
    release_free_memory();
    meter.finish_step();
  }
  std::vector<json> reports;
  for (BlockContext& block : blocks) reports.push_back(finish_block(block, meter));
  reports.back()["output_error"] = streams_.relative_error();
  for (json& report : reports) report["seconds"] = seconds_since(start) / static_cast<double>(count);
  return reports;
}

/// Runs the passes in front of the one that works on groups, which is all of them where there is none, and
/// moves the float stream on to the next block.
void Run::prepare_block(BlockContext& context, ProgressMeter& meter) {
  const bool grouped = group_pass_ < passes_.size();
  context.x_float = streams_.x_float;
  context.x_quant = grouped ? streams_.x_float : streams_.x_quant;
  json profiles = json::array();
  const auto add_profile = [&](const std::string& name) {
    profiles.push_back({{"after", name}, {"sites", channel_profile(spec_, context.block, context.x_float)}});
  };
  // A rotated stream does not fit the block before its own rotation.
  if (!unties_embedding()) add_profile("checkpoint");
  at::Tensor next;  // the float model's output, taken before a pass changes the block's function
  for (size_t i = 0; i < group_pass_; ++i) {
    if (!passes_[i]->keeps_function() && !next.defined()) {
      next = streams_.x_float.clone();
      propagate(spec_, context.block, float_linears(context.block), next);
    }
    run_pass(*passes_[i], context, meter);
    if (!context.quantized[kQ]) add_profile(passes_[i]->name());
  }
  context.report["channel_absmax"] = std::move(profiles);
  context.x_float.reset();
  context.x_quant.reset();
  if (next.defined()) {
    streams_.x_float = next;
  } else {
    propagate(spec_, context.block, float_linears(context.block), streams_.x_float);
  }
}

/// Runs the passes behind the one that works on groups, writes the block, and moves the quantized stream on.
json Run::finish_block(BlockContext& context, ProgressMeter& meter) {
  context.x_quant = streams_.x_quant;
  for (size_t i = group_pass_ + 1; i < passes_.size(); ++i) run_pass(*passes_[i], context, meter);
  for (LinearId id : spec_.existing_linears()) {
    if (context.quantized[id]) continue;
    throw Error("recipe {}: no pass quantizes {}; end the recipe with rtn or gptq", options_.recipe.name,
                spec_.linear_name(context.layer, id));
  }
  writer_.write_shard(context.layer + 1, shards(), block_shard(checkpoint_, context).tensors());
  context.block.kv_format = options_.recipe.kv_format;
  propagate(spec_, context.block, fake_quant_linears(context.quantized, device_), streams_.x_quant);
  context.block = {};
  context.quantized = {};
  release_free_memory();
  meter.finish_step();
  return {{"layer", context.layer}, {"passes", std::move(context.report)}};
}

void Run::run_pass(Pass& pass, BlockContext& context, ProgressMeter& meter) {
  pass.run_on_block(context);
  release_free_memory();
  meter.finish_step();
}

void Run::write_report(const Journal& journal) {
  double seconds = 0;
  for (const json& block : journal.blocks()) seconds += block["seconds"].get<double>();
  const json report = {{"program", "tessera " TESSERA_VERSION},
                       {"model", options_.model_dir.string()},
                       {"recipe", options_.recipe.to_json()},
                       {"device", options_.device},
                       {"libtorch", TORCH_VERSION},
                       {"cpu", cpu_info().model},
                       {"calibration", options_.calibration.manifest},
                       {"fingerprint", fingerprint_},
                       {"seconds", seconds},
                       {"predicted_peak_bytes", memory_.peak()},
                       {"peak_bytes", peak_memory()},
                       {"blocks", journal.blocks()}};
  write_file(writer_.partial() / "report.json", report.dump(1) + "\n");
  reporter_.note(
      fmt::format("peak memory {} MB, predicted {} MB", peak_memory() / 1000000, memory_.peak() / 1000000));
}

/// What a reader needs beside the tensors. "activation_overrides" are keyed by the last component of a
/// linear's name.
json Run::quantization_config() const {
  const Recipe& recipe = options_.recipe;
  json overrides = json::object();
  for (LinearId id : spec_.existing_linears()) {
    const ActivationFormat& activation = schemes_[id].activation;
    if (activation != recipe.scheme.activation) {
      overrides[last_component(spec_.linears[id].name)] = to_json(activation);
    }
  }
  return {{"quant_method", "tessera"},         {"version", kFormatVersion},
          {"recipe", recipe.to_json()},        {"activation", to_json(recipe.scheme.activation)},
          {"activation_overrides", overrides}, {"kv_bits", kv_bits(recipe.kv_format)}};
}

}  // namespace

bool is_up_to_date(const QuantizeOptions& options) {
  const fs::path report = options.output_dir / "report.json";
  if (!fs::exists(report)) return false;
  const json found = json::parse(read_file(report), nullptr, /*allow_exceptions=*/false);
  return found.is_object() &&
         found.value("fingerprint", json()) == fingerprint_of(options, Checkpoint(options.model_dir));
}

void quantize(const QuantizeOptions& options, Reporter& reporter) {
  limit_heap_blocks();
  at::set_num_threads(thread_count());  // left alone, libtorch sets the whole process to fewer threads
  try {
    Run(options, reporter).execute();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {  // of libtorch, the file system or the allocator
    throw Error("{}", one_line(e));
  }
}

}  // namespace tessera
