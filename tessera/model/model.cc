// The decoder forward.
#include "tessera/model/model.h"

#include <algorithm>

#include "tessera/model/rope.h"

namespace tessera {
namespace {

constexpr int64_t kLogitElements = int64_t{1} << 22;  // 16 MiB of logits at once, whatever the vocabulary

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
      weights_(load_weights(spec_, checkpoint_, quantization, backend)),
      kv_format_(quantization ? quantization->kv_format : KvFormat::kF16) {
  allocate_scratch();
}

void Model::allocate_scratch() {
  logit_rows_ = std::clamp<int64_t>(kLogitElements / spec_.vocab_size, kMaxBatch, kChunk);
  const auto rows = [&](int64_t m, int64_t width) {
    return backend_.allocate(static_cast<size_t>(m * width) * sizeof(float));
  };
  scratch_ = {.hidden = rows(kChunk, spec_.hidden_size),
              .positions = weights_.position_embedding ? rows(kChunk, spec_.hidden_size) : nullptr,
              .q = rows(kChunk, spec_.q_size()),
              .k = rows(kChunk, spec_.kv_size()),
              .v = rows(kChunk, spec_.kv_size()),
              .attention = rows(kChunk, spec_.q_size()),
              .gate = spec_.gated() ? rows(kChunk, spec_.intermediate_size) : nullptr,
              .up = rows(kChunk, spec_.intermediate_size),
              .logits = rows(logit_rows_, spec_.vocab_size),
              .input = backend_.make_input(kChunk, weights_.max_input_width)};
  host_logits_.resize(static_cast<size_t>(logit_rows_ * spec_.vocab_size));
}

KvCache Model::make_cache(int64_t capacity, std::optional<KvFormat> format) {
  if (capacity < 1 || capacity > spec_.max_positions) {
    throw Error("{}: a context of {} ids is not possible, the model has {} positions", dir().string(),
                capacity, spec_.max_positions);
  }
  if (spec_.positions == Positions::kRope && capacity > rope_positions_) {
    rope_ = make_rope_table(spec_.rope, spec_.head_dim, capacity, backend_);
    rope_positions_ = capacity;
  }
  return backend_.make_cache(spec_.n_layers, spec_.n_kv_heads, spec_.head_dim, capacity,
                             format.value_or(kv_format_));
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

void Model::check_room(const KvCache& cache, int64_t m) const {
  if (cache.length + m > cache.capacity) {
    throw Error("{}: {} tokens after {} do not fit in a context of {}; shorten the prompt or ask for fewer",
                dir().string(), m, cache.length, cache.capacity);
  }
}

template <class Body>
void Model::run_chunks(std::span<const int32_t> ids, KvCache& cache, const Body& body) {
  check_ids(ids);
  check_room(cache, static_cast<int64_t>(ids.size()));
  for (size_t first = 0; first < ids.size(); first += kChunk) {
    const int64_t m = std::min<int64_t>(kChunk, static_cast<int64_t>(ids.size() - first));
    const Segment segment{m, &cache};
    run(ids.subspan(first, static_cast<size_t>(m)), {&segment, 1});
    body(static_cast<int64_t>(first), m);
  }
}

std::span<const float> Model::forward(std::span<const int32_t> ids, KvCache& cache) {
  int64_t last_row = 0;
  run_chunks(ids, cache, [&](int64_t, int64_t m) { last_row = m - 1; });
  return logits(last_row, 1);
}

void Model::forward(std::span<const int32_t> ids, KvCache& cache, const LogitsVisitor& visit) {
  run_chunks(ids, cache, [&](int64_t first, int64_t m) {
    for (int64_t row = 0; row < m; row += logit_rows_) {
      visit(first + row, logits(row, std::min(logit_rows_, m - row)));
    }
  });
}

std::span<const float> Model::decode(std::span<const int32_t> ids, std::span<KvCache> caches) {
  check_ids(ids);
  assert(ids.size() == caches.size() && static_cast<int64_t>(ids.size()) <= kMaxBatch);
  std::vector<Segment> segments;
  for (KvCache& cache : caches) {
    check_room(cache, 1);
    segments.push_back({1, &cache});
  }
  run(ids, segments);
  return logits(0, static_cast<int64_t>(ids.size()));
}

void Model::run(std::span<const int32_t> ids, std::span<const Segment> segments) {
  const auto m = static_cast<int64_t>(ids.size());
  embed(ids, segments);
  show_hidden(0, segments);
  for (int64_t layer = 0; layer < spec_.n_layers; ++layer) {
    run_block(layer, m, segments);
    show_hidden(layer + 1, segments);
  }
  for (const Segment& segment : segments) segment.cache->length += segment.m;
}

void Model::embed(std::span<const int32_t> ids, std::span<const Segment> segments) {
  float* hidden = scratch_.hidden->floats();
  const auto m = static_cast<int64_t>(ids.size());
  backend_.embed(*weights_.embedding, ids, hidden);
  if (weights_.embedding_norm) backend_.normalize(hidden, m, spec_.hidden_size, *weights_.embedding_norm);
  if (!weights_.position_embedding) return;
  std::vector<int32_t> positions;
  for (const Segment& segment : segments) {
    for (int64_t i = 0; i < segment.m; ++i) {
      positions.push_back(static_cast<int32_t>(segment.cache->length + i + spec_.position_offset));
    }
  }
  backend_.embed(*weights_.position_embedding, positions, scratch_.positions->floats());
  backend_.add(scratch_.positions->floats(), m * spec_.hidden_size, hidden);
}

void Model::run_block(int64_t layer, int64_t m, std::span<const Segment> segments) {
  const BlockWeights& block = weights_.blocks[static_cast<size_t>(layer)];
  float* hidden = scratch_.hidden->floats();
  project_attention(block, m);
  if (spec_.parallel) project_mlp(block, m);
  attend(layer, segments);
  backend_.prepare(scratch_.attention->floats(), m, *block.linears[kO], *scratch_.input);
  backend_.linear(*block.linears[kO], *scratch_.input, m, hidden, true);
  if (!spec_.parallel) project_mlp(block, m);
  backend_.glu(spec_.gated() ? scratch_.gate->floats() : nullptr, scratch_.up->floats(), m,
               to_glu(spec_.activation), *block.linears[kDown], *scratch_.input);
  backend_.linear(*block.linears[kDown], *scratch_.input, m, hidden, true);
}

void Model::project(const BlockWeights& block, NormId norm, int64_t m,
                    std::initializer_list<std::pair<LinearId, float*>> readers) {
  LinearInput& input = *scratch_.input;
  for (const auto& [id, y] : readers) {
    const Linear& linear = *block.linears[id];
    if (block.own_input[id]) {
      backend_.norm(scratch_.hidden->floats(), m, block.norms[norm], linear, input);
    }
    backend_.linear(linear, input, m, y, false);
  }
}

void Model::project_attention(const BlockWeights& block, int64_t m) {
  float *q = scratch_.q->floats(), *k = scratch_.k->floats();
  project(block, kAttentionNorm, m, {{kQ, q}, {kK, k}, {kV, scratch_.v->floats()}});
  if (!spec_.has(kQueryNorm)) return;
  backend_.normalize(q, m * spec_.n_heads, spec_.head_dim, block.norms[kQueryNorm]);
  backend_.normalize(k, m * spec_.n_kv_heads, spec_.head_dim, block.norms[kKeyNorm]);
}

/// Without a norm of its own the MLP reads what q, k and v have read just before.
void Model::project_mlp(const BlockWeights& block, int64_t m) {
  const NormId norm = spec_.has(kMlpNorm) ? kMlpNorm : kAttentionNorm;
  float* up = scratch_.up->floats();
  if (spec_.gated()) {
    project(block, norm, m, {{kGate, scratch_.gate->floats()}, {kUp, up}});
  } else {
    project(block, norm, m, {{kUp, up}});
  }
}

void Model::attend(int64_t layer, std::span<const Segment> segments) {
  const AttentionRule rule{.window = spec_.sliding_window,
                           .alibi_slopes = weights_.alibi_slopes ? weights_.alibi_slopes->floats() : nullptr};
  float *q = scratch_.q->floats(), *k = scratch_.k->floats(), *v = scratch_.v->floats(),
        *attention = scratch_.attention->floats();
  for (const auto& [rows, cache] : segments) {
    if (spec_.positions == Positions::kRope) {
      backend_.rope(q, k, rows, cache->length, spec_.n_heads, spec_.n_kv_heads, spec_.head_dim, rope_);
    }
    backend_.append(*cache, layer, k, v, rows);
    backend_.attention(q, *cache, layer, rows, spec_.n_heads, rule, attention);
    q += rows * spec_.q_size();
    k += rows * spec_.kv_size();
    v += rows * spec_.kv_size();
    attention += rows * spec_.q_size();
  }
}

std::span<const float> Model::logits(int64_t first, int64_t rows) {
  float* out = scratch_.logits->floats();
  backend_.norm(scratch_.hidden->floats() + first * spec_.hidden_size, rows, weights_.final_norm,
                weights_.lm_head(), *scratch_.input);
  backend_.linear(weights_.lm_head(), *scratch_.input, rows, out, false);
  const auto host = std::span(host_logits_).first(static_cast<size_t>(rows * spec_.vocab_size));
  backend_.download(out, host);
  return host;
}

void Model::show_hidden(int64_t layer, std::span<const Segment> segments) {
  if (!observer_) return;
  int64_t row = 0;
  for (const Segment& segment : segments) {
    std::vector<float> rows(static_cast<size_t>(segment.m * spec_.hidden_size));
    backend_.download(scratch_.hidden->floats() + row * spec_.hidden_size, rows);
    observer_(layer, segment.cache->length, rows);
    row += segment.m;
  }
}

}  // namespace tessera
