// Putting a step together.
#include "tessera/kernels/batch.h"

#include <cassert>

namespace tessera {

void Batch::clear() {
  for (auto* values : {&ids, &positions, &sequence, &pages, &logit_rows}) values->clear();
  first_row.assign(1, 0);
  first_page.assign(1, 0);
}

void Batch::add(std::span<const int32_t> new_ids, int64_t position, std::span<const int32_t> its_pages,
                WantedLogits wanted) {
  const auto m = static_cast<int64_t>(new_ids.size());
  assert(m > 0 && static_cast<int64_t>(its_pages.size()) * kPageTokens >= position + m);
  const auto row = static_cast<int32_t>(rows()), index = static_cast<int32_t>(sequences());
  ids.insert(ids.end(), new_ids.begin(), new_ids.end());
  for (int64_t i = 0; i < m; ++i) {
    positions.push_back(static_cast<int32_t>(position + i));
    sequence.push_back(index);
    if (i >= wanted.from) logit_rows.push_back(static_cast<int32_t>(row + i));
  }
  pages.insert(pages.end(), its_pages.begin(), its_pages.end());
  first_row.push_back(static_cast<int32_t>(rows()));
  first_page.push_back(static_cast<int32_t>(pages.size()));
}

}  // namespace tessera
