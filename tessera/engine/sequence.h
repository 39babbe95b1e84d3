// A text in the making: its ids, and where their keys and values are.
#pragma once

#include <cstdint>
#include <vector>

namespace tessera {

using SequenceId = uint64_t;

struct Sequence {
  SequenceId id = 0;
  std::vector<int32_t> ids = {};  ///< the prompt, then what was generated
  int64_t prompt_tokens = 0;      ///< set by Scheduler::add()
  int64_t cached = 0;             ///< prompt positions that the prefix cache held when it was first admitted
  int64_t computed = 0;           ///< positions whose keys and values are stored, from the first on
  std::vector<int32_t> pages =
      {};                  ///< position p is in pages[p / kPageTokens]; pages may be there ahead of it
  int64_t max_length = 0;  ///< most ids that it may come to hold, the prompt's too
  int32_t owner = 0;       ///< owners share the device fairly
  uint64_t salt = 0;       ///< sequences of different salts share no cached page
  /// Prompt positions before this one need not run when the prefix cache has them; no logits of them are
  /// wanted.
  int64_t reusable = INT64_MAX;
};

}  // namespace tessera
