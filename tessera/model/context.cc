// One sequence in a model.
#include "tessera/model/context.h"

#include <cassert>
#include <numeric>

namespace tessera {

Context::Context(Model& model, int64_t capacity, std::optional<KvFormat> format)
    : model_(model), capacity_(capacity) {
  const int64_t most = model.spec().max_positions;
  if (capacity < 1 || capacity > most) {
    throw Error("{}: a context of {} ids is not possible, the model has {} positions", model.dir().string(),
                capacity, most);
  }
  pages_.resize(static_cast<size_t>(pages_for(capacity)));
  std::iota(pages_.begin(), pages_.end(), 0);
  pool_ = model.make_kv_pool(std::ssize(pages_), format);
}

template <class Body>
void Context::run(std::span<const int32_t> ids, bool all_logits, const Body& body) {
  model_.check_ids(ids);
  const auto total = static_cast<int64_t>(ids.size());
  if (length_ + total > capacity_) {
    throw Error("{}: {} tokens after {} do not fit in a context of {}; shorten the prompt or ask for fewer",
                model_.dir().string(), total, length_, capacity_);
  }
  for (int64_t first = 0; first < total; first += model_.max_rows()) {
    const int64_t m = std::min(model_.max_rows(), total - first);
    const bool last = first + m == total;
    Batch batch;
    batch.add(ids.subspan(static_cast<size_t>(first), static_cast<size_t>(m)), length_, pages_,
              all_logits ? WantedLogits::all()
              : last     ? WantedLogits::last(m)
                         : WantedLogits::none(m));
    model_.step(batch, *pool_);
    length_ += m;
    body(first, m);
  }
}

std::span<const float> Context::forward(std::span<const int32_t> ids) {
  run(ids, /*all_logits=*/false, [](int64_t, int64_t) {});
  return model_.logits(0, 1);
}

void Context::forward(std::span<const int32_t> ids, const LogitsVisitor& visit) {
  run(ids, /*all_logits=*/true, [&](int64_t first, int64_t m) {
    for (int64_t row = 0; row < m; row += model_.max_logit_rows()) {
      visit(first + row, model_.logits(row, std::min(model_.max_logit_rows(), m - row)));
    }
  });
}

void Context::rewind(int64_t length) {
  assert(length >= 0 && length <= length_);
  length_ = length;
}

}  // namespace tessera
