// One sequence in a model, with pages of its own: for tests and measurements, which need no scheduler.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "tessera/model/model.h"

namespace tessera {

/// Receives logits, row-major [rows, vocab_size], of the ids first .. first + rows - 1 of a call to
/// forward().
using LogitsVisitor = std::function<void(int64_t first, std::span<const float> logits)>;

class Context {
 public:
  /// An empty sequence of up to `capacity` ids, by default in the model's kv_format(). Throws Error beyond
  /// spec().max_positions.
  Context(Model& model, int64_t capacity, std::optional<KvFormat> format = {});

  /// Appends ids and returns the logits [vocab_size] behind the last one; they stay valid until the next
  /// call. Long inputs run in several steps. Throws Error when ids is empty, an id is outside the vocabulary
  /// or the context overflows.
  std::span<const float> forward(std::span<const int32_t> ids);
  /// The same with the logits behind every id, in pieces, in order.
  void forward(std::span<const int32_t> ids, const LogitsVisitor& visit);

  int64_t length() const { return length_; }
  /// Forgets everything from position `length` on.
  void rewind(int64_t length);

 private:
  /// Appends ids step by step; behind each calls body(index of its first id, its rows).
  template <class Body>
  void run(std::span<const int32_t> ids, bool all_logits, const Body& body);

  Model& model_;
  int64_t capacity_, length_ = 0;
  std::vector<int32_t> pages_;
  std::unique_ptr<KvPool> pool_;
};

}  // namespace tessera
