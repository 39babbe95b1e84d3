// A model bound to a backend, and the one decoder forward that serves every family, float or quantized.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "tessera/model/weights.h"

namespace tessera {

/// Receives the residual stream of a step, row-major [rows, hidden_size]: with `layer` = 0 the embeddings,
/// with i > 0 the output of block i - 1. What it writes there is what the step goes on with.
using HiddenObserver = std::function<void(int64_t layer, std::span<float> hidden)>;

/// Weights, kernels and scratch memory. One thread at a time may run it; the backend brings its own threads.
class Model {
 public:
  /// Reads a Hugging Face folder. The checkpoint stays mapped as long as the model lives; `backend` must
  /// outlive it. Throws Error for an unknown architecture and for everything that load_weights refuses.
  static std::unique_ptr<Model> load(const std::filesystem::path& dir, Backend& backend);

  const ModelSpec& spec() const { return spec_; }
  const std::filesystem::path& dir() const { return checkpoint_.dir(); }
  /// Every linear layer with the kernel that it really runs on, lm_head last.
  const std::vector<LinearInfo>& linears() const { return weights_.linears; }

  /// What the checkpoint asks for, else F16, until set otherwise.
  KvFormat kv_format() const { return kv_format_; }
  void set_kv_format(KvFormat format) { kv_format_ = format; }
  KvShape kv_shape(std::optional<KvFormat> format = {}) const;
  std::unique_ptr<KvPool> make_kv_pool(int64_t pages, std::optional<KvFormat> format = {});

  /// Rows of one step at most.
  int64_t max_rows() const { return max_rows_; }
  /// Runs the rows of `batch` (at most max_rows()) and stores their keys and values in `pool`. Throws Error
  /// when an id is outside the vocabulary or a position beyond the model's context.
  void step(const Batch& batch, KvPool& pool);
  /// Rows of logits that one call below takes.
  int64_t max_logit_rows() const { return logits_.rows.count; }
  /// Logits [count, vocab_size] of the last step's rows that want them, from the first-th on; they stay valid
  /// until the next call.
  std::span<const float> logits(int64_t first, int64_t count);
  /// ids[i] drawn from the logits of wanted row first + i; kNoToken where these are not finite.
  void sample(int64_t first, std::span<const Draw> draws, std::span<int32_t> ids);

  /// Throws Error when `ids` is empty or holds one outside the vocabulary.
  void check_ids(std::span<const int32_t> ids) const;

  /// Shows the residual stream of every later step to `observer`; nullptr ends it.
  void observe(HiddenObserver observer) { observer_ = std::move(observer); }

 private:
  /// Where a linear that reads a norm leaves its outputs.
  struct Place {
    size_t site = 0;
    int64_t column = 0;
  };

  Model(const std::filesystem::path& dir, const ModelConfig& config,
        const std::optional<QuantizationConfig>& quantization, Backend& backend);
  void allocate_scratch();
  void reserve_positions(const Batch& batch);
  void run_blocks(KvPool& pool);
  void run_block(int64_t layer, KvPool& pool);
  /// The norm of the residual stream through the linears of a site.
  void project(const BlockWeights& block, size_t site);
  void attend(const BlockWeights& block, int64_t layer, KvPool& pool, const LinearGroup& o);
  void finish_mlp(const LinearGroup& down);
  /// The outputs of a linear that reads a norm.
  Rows outputs(LinearRole role) const;
  void show_hidden(int64_t layer);
  Rows device_logits(int64_t first, int64_t count);

  Checkpoint checkpoint_;
  ModelSpec spec_;
  Backend& backend_;
  int64_t max_rows_;
  ModelWeights weights_;
  KvFormat kv_format_;
  RopeTable rope_;
  int64_t rope_positions_ = 0;

  // Scratch of a step: as many of the first rows are in use as the batch has.
  std::unique_ptr<DeviceBatch> batch_;
  std::unique_ptr<LinearInput> input_;
  RowBuffer hidden_, delta_, logits_;
  std::vector<RowBuffer> projected_;  ///< of each site that reads a norm, the outputs of its linears
  PerLinear<Place> places_;
  int64_t batch_rows_ = 0;   ///< of this step
  int64_t rows_ = 0;         ///< the same, with those that the device adds
  bool has_delta_ = false;   ///< delta_ is still to be added to hidden_
  std::vector<float> host_;  ///< downloaded rows
  HiddenObserver observer_;
};

}  // namespace tessera
