// The decoder forward.
#include "tessera/model/model.h"

#include <algorithm>
#include <bit>

#include "tessera/arch/rope.h"
#include "tessera/model/device_plan.h"

namespace tessera {
namespace {

constexpr int64_t kLeastPositions = 1024;  // of the rotary table

GluActivation to_glu(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return GluActivation::kSilu;
    case Activation::kRelu:
      return GluActivation::kRelu;
    case Activation::kGelu:
      return GluActivation::kGelu;
    case Activation::kGeluTanh:
      return GluActivation::kGeluTanh;
  }
  return GluActivation::kSilu;
}

}  // namespace

std::unique_ptr<Model> Model::load(const std::filesystem::path& dir, Backend& backend) {
  const ModelConfig config = ModelConfig::load(dir);
  return std::unique_ptr<Model>(new Model(dir, config, read_quantization_config(config), backend));
}

Model::Model(const std::filesystem::path& dir, const ModelConfig& config,
             const std::optional<QuantizationConfig>& quantization, Backend& backend)
    : checkpoint_(dir),
      spec_(make_model_spec(config, checkpoint_)),
      backend_(backend),
      max_rows_(backend.limits().rows),
      weights_(load_weights(spec_, checkpoint_, quantization, backend)),
      kv_format_(quantization ? quantization->kv_format : KvFormat::kF16) {
  allocate_scratch();
}

void Model::allocate_scratch() {
  batch_ = backend_.make_batch();
  input_ = backend_.make_input(max_rows_, weights_.max_input_width);
  hidden_ = backend_.make_rows(RowUse::kResidual, max_rows_, spec_.hidden_size);
  delta_ = backend_.make_rows(RowUse::kIntermediate, max_rows_, spec_.hidden_size);
  logits_ = backend_.make_rows(RowUse::kLogits, logit_rows(spec_, backend_.limits()), spec_.vocab_size);
  places_.resize(spec_.linears.size());
  for (size_t site = 0; site < spec_.sites.size(); ++site) {
    projected_.emplace_back();
    if (spec_.sites[site].producer != Site::Producer::kNorm) continue;
    int64_t width = 0;
    for (LinearId id : spec_.sites[site].readers) {
      places_[id] = {site, width};
      width += spec_.linears[id].n;
    }
    projected_[site] = backend_.make_rows(RowUse::kIntermediate, max_rows_, width);
  }
}

KvShape Model::kv_shape(std::optional<KvFormat> format) const {
  return {spec_.n_layers, spec_.n_kv_heads, spec_.head_dim, format.value_or(kv_format_), spec_.n_heads};
}

std::unique_ptr<KvPool> Model::make_kv_pool(int64_t pages, std::optional<KvFormat> format) {
  return backend_.make_kv_pool(kv_shape(format), pages);
}

void Model::check_ids(std::span<const int32_t> ids) const {
  if (ids.empty()) throw Error("{}: the prompt is empty; give at least one token", dir().string());
  for (int32_t id : ids) {
    if (id < 0 || id >= spec_.vocab_size) {
      throw Error("{}: token id {} is outside the vocabulary of {}; is the tokenizer that of another model?",
                  dir().string(), id, spec_.vocab_size);
    }
  }
}

/// Makes sure that the rotary table reaches the last position of the batch.
void Model::reserve_positions(const Batch& batch) {
  const int64_t needed = *std::ranges::max_element(batch.positions) + 1;
  if (needed > spec_.max_positions) {
    throw Error("{}: a context of {} ids is not possible, the model has {} positions", dir().string(), needed,
                spec_.max_positions);
  }
  if (spec_.positions != Positions::kRope || needed <= rope_positions_) return;
  const auto doubled = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(needed)));
  rope_positions_ = std::min(spec_.max_positions, std::max(doubled, kLeastPositions));
  const RopeAngles angles = rope_angles(spec_.rope, spec_.head_dim, rope_positions_);
  rope_ = {to_device(angles.cos, backend_), to_device(angles.sin, backend_)};
}

void Model::step(const Batch& batch, KvPool& pool) {
  check_ids(batch.ids);
  assert(batch.rows() <= max_rows_);
  reserve_positions(batch);
  backend_.upload(batch, *batch_);
  batch_rows_ = batch.rows();
  rows_ = batch_->rows();
  if (observer_) return run_blocks(pool);
  backend_.run(*batch_, pool, [&] { run_blocks(pool); });
  has_delta_ = true;
}

void Model::run_blocks(KvPool& pool) {
  has_delta_ = false;
  backend_.embed({.tokens = weights_.embedding.get(),
                  .positions = weights_.position_embedding.get(),
                  .position_offset = spec_.position_offset,
                  .norm = weights_.embedding_norm ? &*weights_.embedding_norm : nullptr},
                 *batch_, hidden_.rows.first(rows_));
  show_hidden(0);
  for (int64_t layer = 0; layer < spec_.n_layers; ++layer) {
    run_block(layer, pool);
    show_hidden(layer + 1);
  }
}

void Model::run_block(int64_t layer, KvPool& pool) {
  const BlockWeights& block = weights_.blocks[static_cast<size_t>(layer)];
  for (size_t i = 0; i < spec_.sites.size(); ++i) {
    const Site& site = spec_.sites[i];
    if (site.producer == Site::Producer::kNorm) {
      project(block, i);
    } else if (spec_.reads_attention(site)) {
      attend(block, layer, pool, block.sites[i].front());
    } else {
      finish_mlp(block.sites[i].front());
    }
  }
}

void Model::project(const BlockWeights& block, size_t site) {
  const Rows hidden = hidden_.rows.first(rows_), delta = delta_.rows.first(rows_);
  for (const LinearGroup& group : block.sites[site]) {
    if (group.input) {
      backend_.add_norm(hidden, has_delta_ ? &delta : nullptr, block.norms[spec_.sites[site].norm],
                        *group.input, *input_);
      has_delta_ = false;
    }
    const Rows out = projected_[site].rows.first(rows_);
    backend_.linear(*group.linear, *input_, out.columns(group.first_output, group.linear->n()));
  }
}

Rows Model::outputs(LinearRole role) const {
  const LinearId id = spec_.id(role);
  const Place& place = places_[id];
  return projected_[place.site].rows.first(rows_).columns(place.column, spec_.linears[id].n);
}

void Model::attend(const BlockWeights& block, int64_t layer, KvPool& pool, const LinearGroup& o) {
  HeadRule heads;
  if (spec_.has(kQueryNorm)) {
    heads.query_norm = &block.norms[kQueryNorm];
    heads.key_norm = &block.norms[kKeyNorm];
  }
  if (spec_.positions == Positions::kRope) heads.rope = &rope_;
  const AttentionRule rule{.window = spec_.window(layer),
                           .alibi_slopes = weights_.alibi_slopes ? weights_.alibi_slopes->floats() : nullptr};
  const Rows q = outputs(kQ);
  backend_.append(q, outputs(kK), outputs(kV), heads, *batch_, layer, pool);
  backend_.attention(q, *batch_, layer, pool, rule, *o.input, *input_);
  backend_.linear(*o.linear, *input_, delta_.rows.first(rows_));
  has_delta_ = true;
}

/// In a parallel block attention has left its part of the block's output already.
void Model::finish_mlp(const LinearGroup& down) {
  const std::optional<Rows> gate = spec_.gated() ? std::optional(outputs(kGate)) : std::nullopt;
  backend_.glu(gate ? &*gate : nullptr, outputs(kUp), to_glu(spec_.activation), *down.input, *input_);
  backend_.linear(*down.linear, *input_, delta_.rows.first(rows_), /*accumulate=*/spec_.parallel);
  has_delta_ = true;
}

Rows Model::device_logits(int64_t first, int64_t count) {
  const Rows delta = delta_.rows.first(rows_), out = logits_.rows.first(count);
  backend_.norm_wanted(hidden_.rows.first(rows_), has_delta_ ? &delta : nullptr, *batch_, first, count,
                       weights_.final_norm, *weights_.lm_head_input, *input_);
  backend_.linear(weights_.lm_head(), *input_, out);
  return out;
}

std::span<const float> Model::logits(int64_t first, int64_t count) {
  host_.resize(static_cast<size_t>(count * spec_.vocab_size));
  backend_.download(device_logits(first, count), host_);
  return host_;
}

void Model::sample(int64_t first, std::span<const Draw> draws, std::span<int32_t> ids) {
  const auto total = static_cast<int64_t>(draws.size());
  for (int64_t i = 0; i < total; i += max_logit_rows()) {
    const int64_t count = std::min(max_logit_rows(), total - i);
    const auto begin = static_cast<size_t>(i), size = static_cast<size_t>(count);
    backend_.sample(device_logits(first + i, count), draws.subspan(begin, size), ids.subspan(begin, size));
  }
}

void Model::show_hidden(int64_t layer) {
  if (!observer_) return;
  const Rows hidden = hidden_.rows.first(rows_);
  if (has_delta_) backend_.add(delta_.rows.first(rows_), hidden);
  has_delta_ = false;
  host_.resize(static_cast<size_t>(batch_rows_ * spec_.hidden_size));
  backend_.download(hidden.first(batch_rows_), host_);
  observer_(layer, host_);
  std::vector<float> padded(static_cast<size_t>(batch_rows_ * hidden.stride));
  for (int64_t i = 0; i < batch_rows_; ++i) {
    std::copy_n(&host_[static_cast<size_t>(i * hidden.width)], hidden.width,
                &padded[static_cast<size_t>(i * hidden.stride)]);
  }
  backend_.upload(std::as_bytes(std::span(padded)), *hidden_.memory);
}

}  // namespace tessera
