// A model bound to a backend, and the one decoder forward that serves every family, float or quantized.
#pragma once

#include <filesystem>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "tessera/model/weights.h"

namespace tessera {

/// Receives logits, row-major [rows, vocab_size], of the ids first .. first + rows - 1 of a call to
/// forward().
using LogitsVisitor = std::function<void(int64_t first, std::span<const float> logits)>;

/// Receives the residual stream, row-major [rows, hidden_size], of some ids: with `layer` = 0 the embeddings,
/// with i > 0 the output of block i - 1. `position` is that of the first row in its sequence.
using HiddenObserver = std::function<void(int64_t layer, int64_t position, std::span<const float> hidden)>;

/// Weights, kernels and scratch memory. One thread at a time may run it; the backend brings its own threads.
/// Long inputs run in chunks, so that scratch memory does not depend on their length.
class Model {
 public:
  static constexpr int64_t kChunk = 512;    ///< ids that run at once: enough rows to keep a GEMM busy
  static constexpr int64_t kMaxBatch = 32;  ///< sequences that decode() takes

  /// Reads a Hugging Face folder. The checkpoint stays mapped as long as the model lives; `backend` must
  /// outlive it. Throws Error for an unknown architecture and for everything that load_weights refuses.
  static std::unique_ptr<Model> load(const std::filesystem::path& dir, Backend& backend);

  const ModelSpec& spec() const { return spec_; }
  const std::filesystem::path& dir() const { return checkpoint_.dir(); }
  /// Every linear layer with the kernel that it really runs on, lm_head last.
  const std::vector<LinearInfo>& linears() const { return weights_.linears; }

  /// An empty cache for sequences of up to `capacity` ids, by default in kv_format(). Throws Error beyond
  /// spec().max_positions. Setting its length back forgets what came after.
  KvCache make_cache(int64_t capacity, std::optional<KvFormat> format = {});
  /// What the checkpoint asks for, else F16, until set otherwise.
  KvFormat kv_format() const { return kv_format_; }
  void set_kv_format(KvFormat format) { kv_format_ = format; }

  /// Appends ids to the sequence in `cache` and returns the logits [vocab_size] behind the last one; they
  /// stay valid until the next call. Throws Error when ids is empty, an id is outside the vocabulary or the
  /// cache overflows.
  std::span<const float> forward(std::span<const int32_t> ids, KvCache& cache);
  /// The same with the logits behind every id, in pieces, in order.
  void forward(std::span<const int32_t> ids, KvCache& cache, const LogitsVisitor& visit);
  /// Appends ids[i] to caches[i], a step of up to kMaxBatch sequences; returns logits [ids.size(),
  /// vocab_size].
  std::span<const float> decode(std::span<const int32_t> ids, std::span<KvCache> caches);

  /// Shows the residual stream of every later call to `observer`; nullptr ends it.
  void observe(HiddenObserver observer) { observer_ = std::move(observer); }

 private:
  /// Consecutive rows of a batch that continue one sequence.
  struct Segment {
    int64_t m;
    KvCache* cache;
  };
  /// Rows of intermediate results, and the prepared input of the linears that run next.
  struct Scratch {
    std::unique_ptr<Buffer> hidden, positions, q, k, v, attention, gate, up, logits;
    std::unique_ptr<LinearInput> input;
  };

  Model(const std::filesystem::path& dir, const ModelConfig& config,
        const std::optional<QuantizationConfig>& quantization, Backend& backend);
  void allocate_scratch();
  void check_ids(std::span<const int32_t> ids) const;
  void check_room(const KvCache& cache, int64_t m) const;
  /// Appends ids chunk by chunk; behind each calls body(index of its first id, its rows in scratch).
  template <class Body>
  void run_chunks(std::span<const int32_t> ids, KvCache& cache, const Body& body);
  /// Embeds ids and runs all blocks; leaves the residual stream in scratch and advances the caches.
  void run(std::span<const int32_t> ids, std::span<const Segment> segments);
  void embed(std::span<const int32_t> ids, std::span<const Segment> segments);
  /// Reads the norm of the residual stream through linears of one site, each into its rows, in the order of
  /// the site's readers.
  void project(const BlockWeights& block, NormId norm, int64_t m,
               std::initializer_list<std::pair<LinearId, float*>> readers);
  void run_block(int64_t layer, int64_t m, std::span<const Segment> segments);
  void project_attention(const BlockWeights& block, int64_t m);
  void project_mlp(const BlockWeights& block, int64_t m);
  /// scratch_.attention of scratch_.q, .k and .v, which join the caches.
  void attend(int64_t layer, std::span<const Segment> segments);
  void show_hidden(int64_t layer, std::span<const Segment> segments);
  /// Logits [rows, vocab_size] of rows first .. first + rows - 1 of the residual stream; rows <= logit_rows_.
  std::span<const float> logits(int64_t first, int64_t rows);

  Checkpoint checkpoint_;
  ModelSpec spec_;
  Backend& backend_;
  ModelWeights weights_;
  KvFormat kv_format_;
  RopeTable rope_;
  int64_t rope_positions_ = 0;
  Scratch scratch_;
  int64_t logit_rows_ = 0;
  std::vector<float> host_logits_;
  HiddenObserver observer_;
};

}  // namespace tessera
