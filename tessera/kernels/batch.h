// One step: which tokens of which sequences run together.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tessera/kernels/kv_pool.h"

namespace tessera {

/// Which rows of a sequence's part of a step want logits: none, the last one, or all from an index on.
struct WantedLogits {
  int64_t from;  ///< index of the first row, counted within the part

  static WantedLogits none(int64_t rows) { return {rows}; }
  static WantedLogits last(int64_t rows) { return {rows - 1}; }
  static WantedLogits all() { return {0}; }
};

/// The rows of one step. Rows of a sequence are consecutive and stand at consecutive positions; a sequence
/// takes part once. Everything before its first row is stored in its pages already.
struct Batch {
  std::vector<int32_t> ids, positions, sequence;  ///< [rows()]; `sequence` indexes the arrays below
  std::vector<int32_t> first_row;                 ///< [sequences() + 1]: a sequence's rows
  std::vector<int32_t> first_page;                ///< [sequences() + 1]: its part of `pages`
  std::vector<int32_t> pages;                     ///< pages of the pool, one for every kPageTokens positions
  std::vector<int32_t> logit_rows;                ///< rows that want logits, ascending

  int64_t rows() const { return static_cast<int64_t>(ids.size()); }
  int64_t sequences() const { return static_cast<int64_t>(first_row.size()) - 1; }
  int64_t rows_of(int64_t s) const {
    return first_row[static_cast<size_t>(s) + 1] - first_row[static_cast<size_t>(s)];
  }
  /// Position of the first row of sequence s.
  int64_t first_position(int64_t s) const {
    return positions[static_cast<size_t>(first_row[static_cast<size_t>(s)])];
  }
  std::span<const int32_t> pages_of(int64_t s) const {
    const auto begin = static_cast<size_t>(first_page[static_cast<size_t>(s)]);
    return std::span(pages).subspan(begin,
                                    static_cast<size_t>(first_page[static_cast<size_t>(s) + 1]) - begin);
  }

  Batch() { clear(); }
  void clear();
  /// Adds a sequence whose next ids are `new_ids`, the first at `position`. `its_pages` hold all positions up
  /// to the last.
  void add(std::span<const int32_t> new_ids, int64_t position, std::span<const int32_t> its_pages,
           WantedLogits wanted);
};

}  // namespace tessera
