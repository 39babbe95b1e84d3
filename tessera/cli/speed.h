// Tokens a second of a model, measured the same way wherever they are printed.
#pragma once

#include "tessera/model/model.h"

namespace tessera {

struct Speed {
  int64_t prompt_tokens = 0;
  double prefill = 0;  ///< prompt tokens a second
  double decode = 0;   ///< tokens a second, one sequence, behind the prompt
};

/// Best of three runs: a prompt of half the context (at most 256 ids), then up to 64 single steps.
Speed measure_speed(Model& model);

}  // namespace tessera
