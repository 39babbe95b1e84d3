// The run: checks, calibration text, outer tensors, then block by block passes, shard, streams, journal.
#include "tessera/quant/run/quantizer.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "tessera/arch/unread_tensors.h"
#include "tessera/base/atomic_output.h"
#include "tessera/base/cpu_info.h"
#include "tessera/base/error.h"
#include "tessera/base/heap.h"
#include "tessera/base/parallel.h"
#include "tessera/base/stopwatch.h"
#include "tessera/format/quantization_config.h"
#include "tessera/quant/block/channel_profile.h"
#include "tessera/quant/block/fake_quant.h"
#include "tessera/quant/block/streams.h"
#include "tessera/quant/block/tensor_memory.h"
#include "tessera/quant/run/checkpoint_writer.h"
#include "tessera/quant/run/fingerprint.h"
#include "tessera/quant/run/journal.h"
#include "tessera/quant/run/model_training.h"
#include "tessera/quant/run/outer_shard.h"
#include "tessera/quant/run/output_folder.h"
#include "tessera/quant/run/owned_files.h"
#include "tessera/quant/run/plan.h"
#include "tessera/quant/run/progress_meter.h"
#include "tessera/quant/run/run_checks.h"
#include "tessera/quant/run/run_report.h"
#include "tessera/quant/run/shards.h"
#include "tessera/quant/run/time_plan.h"

namespace tessera {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

/// libtorch's messages carry a stack trace.
std::string first_line(const std::exception& e) {
  const auto* torch = dynamic_cast<const c10::Error*>(&e);
  const std::string text = torch ? torch->what_without_backtrace() : e.what();
  return text.substr(0, text.find('\n'));
}

class Run {
 public:
  /// Checks all that can be checked. Writes nothing.
  Run(const QuantizeOptions& options, Reporter& reporter);
  void execute();

 private:
  void check_output() const;
  void check_absent() const;
  Journal open_journal();
  Journal start_journal(const Fingerprint& fingerprint);
  void calibrate();
  void announce_time() const;
  void survey();
  void quantize_blocks();
  void start();
  std::vector<json> quantize_group(int64_t first, int64_t count, ProgressMeter& meter);
  void prepare_block(BlockContext& context, ProgressMeter& meter);
  json finish_block(BlockContext& context, ProgressMeter& meter);
  void run_pass(Pass& pass, BlockContext& context, ProgressMeter& meter);
  void write_shard(int64_t index, const Shard& shard);
  void train_model();
  void write_trained_shards();
  void join_shards();
  void write_report();

  MemoryPlan plan_memory() const {
    return tessera::plan_memory(spec_, checkpoint_, passes_, windows(), tokens(),
                                options_.recipe.lm_head_w8a8);
  }
  int64_t windows() const { return calibrated_ ? options_.calibration.window_count() : 0; }
  int64_t tokens() const { return calibrated_ ? options_.calibration.window_tokens() : 0; }
  /// Whether blocks behind the first `finished` ones, or passes behind all of them, need the streams.
  bool needs_streams(int64_t finished) const {
    return calibrated_ &&
           (finished < spec_.n_layers || (plan_.trains_model() && journal_->whole_model().is_null()));
  }
  fs::path partial(const std::string& name) const { return output_.partial() / name; }

  const QuantizeOptions& options_;
  Reporter& reporter_;
  at::Device device_;
  RunPlan plan_;
  const ModelConfig& config_ = plan_.config;
  /// Another tool's codes; those of a GGUF file can be read as floats.
  const std::optional<QuantizationConfig> source_ =
      is_gguf(options_.model_dir) ? std::nullopt : read_quantization_config(config_);
  const Checkpoint& checkpoint_ = plan_.checkpoint;
  const ModelSpec& spec_ = plan_.spec;
  const PerLinear<LinearScheme>& schemes_ = plan_.schemes;
  const std::vector<std::unique_ptr<Pass>>& passes_ = plan_.passes;
  const size_t group_pass_ = plan_.group_pass();
  const bool calibrated_;  ///< false: the run has no windows and no streams
  OutputFolder output_;
  CheckpointWriter writer_;
  MemoryPlan memory_;
  Fingerprint fingerprint_;  ///< of the result
  bool complete_ = false;    ///< the run to resume has nothing left to do
  std::optional<Journal> journal_;
  TokenWindows ids_;  ///< [windows][tokens]
  Streams streams_;   ///< inputs of the next block
};

Run::Run(const QuantizeOptions& options, Reporter& reporter)
    : options_(options),
      reporter_(reporter),
      device_(parse_device(options.device)),
      plan_(options.model_dir, options.recipe),
      calibrated_(plan_.needs_calibration() || !options.calibration.windows.empty()),
      output_(options.output_dir, options.model_dir),
      writer_(output_.partial(), options.model_dir, spec_.n_layers + 1) {  // the first: outside the blocks
  // Weights of 16 bits and codes are exact in TF32; activations are rounded as half precision would.
  at::globalContext().setAllowTF32CuBLAS(device_.is_cuda());
  check_output();
  if (calibrated_) {
    check_calibration(spec_, passes_, options.calibration);
    if (const std::string warning = calibration_warning(spec_, tokens()); !warning.empty())
      reporter.note(warning);
  }
  if (device_.is_cpu()) check_memory(plan_memory());
  check_disk(
      plan_disk(spec_, checkpoint_, schemes_, passes_, windows(), tokens(), options_.recipe.lm_head_w8a8),
      output_.partial());
  fingerprint_ = fingerprint_of(options, checkpoint_);
  complete_ = options.resume && !output_.has_run() && holds_result(output_.path(), fingerprint_);
  if (!complete_ && !options.overwrite) check_absent();
}

/// Refuses what can be refused without looking at the weights.
void Run::check_output() const {
  if (options_.overwrite) return output_.check_replaceable();
  if (options_.resume) return;
  check_absent();
  if (output_.has_run()) {
    throw Error("{}: holds an interrupted run; continue it with --resume or discard it with --overwrite",
                output_.partial().string());
  }
}

void Run::check_absent() const {
  if (!fs::exists(output_.path())) return;
  throw Error("{}: exists; remove it, or replace it with --overwrite", output_.path().string());
}

void Run::execute() {
  if (complete_) {
    output_.finish_publication();
    reporter_.note(fmt::format("{} is complete already", output_.path().string()));
    return;
  }
  if (const std::string line = unread_tensors(spec_, checkpoint_); !line.empty()) reporter_.note(line);
  output_.open();
  journal_ = open_journal();
  std::set<std::string> kept = {kJournalName, kReplacedName};
  for (const auto& [name, digest] : journal_->kept()) kept.insert(name);
  output_.keep_only(kept);
  try {
    calibrate();
    announce_time();
    survey();
    quantize_blocks();
    train_model();
    join_shards();
    writer_.write_metadata(plan_.quantization_config(options_.recipe).to_json(),
                           plan_.stores_head(options_.recipe));
    write_report();
    output_.publish(options_.overwrite);
  } catch (const std::exception& e) {
    if (!fs::exists(output_.partial())) throw;
    if (journal_->finished_blocks() == 0 && !journal_->kept().contains(kCalibrationName)) {
      output_.discard();
      throw;
    }
    throw Error("{} ({} of {} blocks are kept in {}; continue with --resume)", first_line(e),
                journal_->finished_blocks(), spec_.n_layers, output_.partial().string());
  }
}

Journal Run::open_journal() {
  Fingerprint fingerprint = fingerprint_;
  if (calibrated_) {  // libraries add floats in an order that depends on both
    fingerprint["number of threads"] = std::to_string(thread_count());
    fingerprint["processor"] = cpu_info().model;
  }
  if (!options_.resume) return start_journal(fingerprint);
  if (!output_.has_run()) {
    reporter_.note("nothing to resume, starting with the first block");
    return start_journal(fingerprint);
  }
  try {
    Journal journal = Journal::resume(output_.partial(), fingerprint, writer_.files());
    reporter_.note(fmt::format("resuming after {} of {} blocks", journal.finished_blocks(), spec_.n_layers));
    return journal;
  } catch (const Error& e) {
    if (!options_.overwrite) throw Error("{}, or start afresh with --overwrite", e.what());
    reporter_.note(fmt::format("starting afresh: {}", e.what()));
    return start_journal(fingerprint);
  }
}

Journal Run::start_journal(const Fingerprint& fingerprint) {
  output_.restore_replaced();
  std::set<std::string> files = writer_.files();
  files.merge(listed_files(output_.partial()));  // of the run that this one discards
  return Journal::start(output_.partial(), fingerprint, std::move(files));
}

/// Token ids: given, sampled by the interrupted run, or sampled now.
void Run::calibrate() {
  const CalibrationSet& set = options_.calibration;
  if (!calibrated_ || !set.sampler) {
    ids_ = set.windows;
  } else if (journal_->kept().contains(kCalibrationName)) {
    ids_ = load_windows(partial(kCalibrationName));
  } else {
    ids_ = set.sampler->sample(reporter_);
    journal_->keep(kCalibrationName, save_windows(partial(kCalibrationName), ids_));
    journal_->write();
  }
  memory_ = plan_memory();
  reporter_.note(memory_.to_string());
}

/// Of what is left, where it takes long enough to be measured.
void Run::announce_time() const {
  const int64_t left = spec_.n_layers - journal_->finished_blocks();
  if (!calibrated_ || left == 0) return;
  const double passes = token_passes(plan_, left, windows(), tokens());
  reporter_.note(time_note(
      passes * seconds_a_token(plan_, source_ ? &*source_ : nullptr, ids_.front(), device_), device_));
}

/// Shows the float model's blocks to the passes that ask for it; a resumed run does so again.
void Run::survey() {
  constexpr size_t kWindows = 16;
  if (journal_->finished_blocks() == spec_.n_layers ||
      std::ranges::none_of(passes_, [](const auto& pass) { return pass->surveys(); })) {
    return;
  }
  const auto tensor = [&](const std::string& name) { return checkpoint_.at(name); };
  at::Tensor x =
      embed_windows(spec_, tensor, std::span(ids_).first(std::min(kWindows, ids_.size())), device_);
  for (int64_t layer = 0; layer < spec_.n_layers; ++layer) {
    reporter_.progress("looking at the float model, blocks", layer, spec_.n_layers);
    for (const auto& pass : passes_) pass->survey_block(spec_, x);
    const Block block = load_block(checkpoint_, spec_, layer, device_, source_ ? &*source_ : nullptr);
    propagate(spec_, block, float_linears(block), x);
  }
  release_free_memory();
}

void Run::quantize_blocks() {
  const int64_t finished = journal_->finished_blocks(), group = plan_.group_blocks();
  if (finished == 0) {
    start();
  } else if (needs_streams(finished)) {
    streams_ =
        Streams::load(partial(streams_name(finished)), {windows(), tokens(), spec_.hidden_size}, device_);
  }
  const size_t steps = static_cast<size_t>(group) * (passes_.size() + 1);
  ProgressMeter meter(reporter_, (spec_.n_layers + group - 1) / group, finished / group, group, steps);
  std::vector<json> reports;  // of blocks that are not in the journal
  int64_t journaled = finished;
  Stopwatch since_save;
  const auto save_before = [&](int64_t next) {
    if (needs_streams(next)) {
      journal_->keep(streams_name(next), streams_.save(partial(streams_name(next))));
    }
    journal_->forget(streams_name(journaled));
    journal_->append(std::exchange(reports, {}));
    fs::remove(partial(streams_name(journaled)));
    journaled = next;
    since_save = {};
  };
  for (int64_t first = finished; first < spec_.n_layers; first += group) {
    const int64_t next = std::min(first + group, spec_.n_layers);
    std::ranges::move(quantize_group(first, next - first, meter), std::back_inserter(reports));
    if (since_save.seconds() >= streams_.seconds_between_saves() || next == spec_.n_layers) save_before(next);
    meter.finish_group();
  }
}

/// Writes the first shard; the streams start at the embeddings that it holds.
void Run::start() {
  const Shard shard = make_outer_shard(plan_, options_.recipe, device_);
  write_shard(0, shard);
  if (calibrated_) {
    const auto written = [&](const std::string& name) { return shard.at(name); };
    streams_.x_float = embed_windows(spec_, written, ids_, device_);
    streams_.x_quant = streams_.x_float.clone();
  }
  checkpoint_.release_pages();
}

void Run::write_shard(int64_t index, const Shard& shard) {
  const std::string name =
      plan_.trains_model() ? untrained_name(index, writer_.shards()) : writer_.shard_name(index);
  journal_->keep(name, write_safetensors(partial(name), shard.tensors()));
}

void Run::train_model() {
  if (!plan_.trains_model()) return;
  if (journal_->whole_model().is_null()) {
    streams_.x_quant.reset();
    ModelTraining result = tessera::train_model(plan_, options_.recipe, Checkpoint(output_.partial()), ids_,
                                                streams_.x_float, device_, reporter_);
    const std::string streams = streams_name(spec_.n_layers);
    journal_->keep(kVectorsName, write_safetensors(partial(kVectorsName), result.vectors.tensors()));
    journal_->set_whole_model(std::move(result.report));
    journal_->forget(streams);
    journal_->write();
    fs::remove(partial(streams));
    streams_ = {};
    release_free_memory();
  }
  if (journal_->kept().contains(kVectorsName)) write_trained_shards();
}

/// Each shard takes the place of its untrained one in the journal, so that one of the two is always there.
void Run::write_trained_shards() {
  const SafetensorsFile vectors(partial(kVectorsName));
  for (int64_t i = 0; i < writer_.shards(); ++i) {
    const std::string name = writer_.shard_name(i), untrained = untrained_name(i, writer_.shards());
    if (journal_->kept().contains(name)) continue;
    const SafetensorsFile shard(partial(untrained));
    journal_->keep(name, write_safetensors(partial(name), with_vectors(shard, vectors)));
    journal_->forget(untrained);
    journal_->write();
    fs::remove(partial(untrained));
  }
  journal_->forget(kVectorsName);
  journal_->write();
  fs::remove(partial(kVectorsName));
}

/// A resumed run relies on the shards until the journal names the file that holds them all.
void Run::join_shards() {
  if (!journal_->kept().contains(kWeightsName)) {
    if (!writer_.is_small()) return;
    journal_->keep(kWeightsName, writer_.join());
    for (int64_t i = 0; i < writer_.shards(); ++i) journal_->forget(writer_.shard_name(i));
    journal_->write();
  }
  for (int64_t i = 0; i < writer_.shards(); ++i) fs::remove(partial(writer_.shard_name(i)));
}

std::vector<json> Run::quantize_group(int64_t first, int64_t count, ProgressMeter& meter) {
  const Stopwatch watch;
  std::vector<BlockContext> blocks;
  for (int64_t layer = first; layer < first + count; ++layer) {
    Block block = load_block(checkpoint_, spec_, layer, device_, source_ ? &*source_ : nullptr);
    blocks.emplace_back(spec_, layer, schemes_, std::move(block), reporter_);
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
  if (calibrated_) reports.back()["output_error"] = streams_.relative_error();
  for (json& report : reports) report["seconds"] = watch.seconds() / static_cast<double>(count);
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
    if (!calibrated_) return;
    const auto without_outliers = [&](LinearId id, const at::Tensor& absmax) {
      const OutlierSplit& split = context.split[id];
      return split.count > 0 ? absmax.index_fill(0, split.outliers(), 0) : absmax;
    };
    profiles.push_back({{"after", name},
                        {"sites", channel_profile(spec_, context.block, context.x_float, without_outliers)}});
  };
  // A rotated stream does not fit the block before its own rotation.
  if (!plan_.unties_embedding()) add_profile("checkpoint");
  at::Tensor next;  // the float model's output, taken before a pass changes the block's function
  for (size_t i = 0; i < group_pass_; ++i) {
    if (calibrated_ && !passes_[i]->keeps_function() && !next.defined()) {
      next = streams_.x_float.clone();
      propagate(spec_, context.block, float_linears(context.block), next);
    }
    run_pass(*passes_[i], context, meter);
    if (!context.quantized.front()) add_profile(passes_[i]->name());
  }
  context.report["channel_absmax"] = std::move(profiles);
  context.x_float.reset();
  context.x_quant.reset();
  if (next.defined()) {
    streams_.x_float = next;
  } else if (calibrated_) {
    propagate(spec_, context.block, float_linears(context.block), streams_.x_float);
  }
}

/// Runs the passes behind the one that works on groups, moves the quantized stream on, and writes the block;
/// with the last one what depends on it of the norm and head behind.
json Run::finish_block(BlockContext& context, ProgressMeter& meter) {
  context.x_quant = streams_.x_quant;
  for (size_t i = group_pass_ + 1; i < passes_.size(); ++i) run_pass(*passes_[i], context, meter);
  if (calibrated_) {
    context.block.kv_format = options_.recipe.kv_format;
    propagate(spec_, context.block, fake_quant_linears(context.quantized, device_), streams_.x_quant);
  }
  Shard shard = block_shard(checkpoint_, context);
  if (context.layer + 1 == spec_.n_layers)
    add_head(plan_, options_.recipe, streams_, context, device_, shard);
  write_shard(context.layer + 1, shard);
  context.block = {};
  context.quantized.clear();
  release_free_memory();
  meter.finish_step();
  return {{"layer", context.layer}, {"passes", std::move(context.report)}};
}

void Run::run_pass(Pass& pass, BlockContext& context, ProgressMeter& meter) {
  pass.run_on_block(context);
  release_free_memory();
  meter.finish_step();
}

void Run::write_report() {
  json report = run_report(options_, memory_, fingerprint_, *journal_);
  report["calibration"] = calibrated_ ? options_.calibration.manifest : json();
  report["files"] = writer_.files();
  write_file(partial(kReportName), json_text(report, 1) + "\n");
  reporter_.note(fmt::format("peak memory {:.0f} MB, predicted {:.0f} MB",
                             static_cast<double>(peak_memory()) / 1e6,
                             static_cast<double>(memory_.peak()) / 1e6));
}

}  // namespace

void check_recipe(const fs::path& model_dir, const Recipe& recipe) {
  RunPlan(model_dir, recipe);
}

bool is_up_to_date(const QuantizeOptions& options) {
  return fs::exists(options.output_dir / kReportName) &&
         holds_result(options.output_dir, fingerprint_of(options, Checkpoint(options.model_dir)));
}

void quantize(const QuantizeOptions& options, Reporter& reporter) {
  limit_heap_blocks();
  reuse_tensor_memory();
  at::set_num_threads(thread_count());  // left alone, libtorch sets the whole process to fewer threads
  try {
    Run(options, reporter).execute();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {  // of libtorch, the file system or the allocator
    throw Error("{}", first_line(e));
  }
}

}  // namespace tessera
