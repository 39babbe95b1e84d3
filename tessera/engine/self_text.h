// Text written by a model itself, to calibrate or compare with when there is no other.
#pragma once

#include <cstdint>
#include <vector>

#include "tessera/base/reporter.h"
#include "tessera/model/model.h"

namespace tessera {

struct SelfTextOptions {
  int64_t windows = 64;
  int64_t window = 512;  ///< ids in each
  uint64_t seed = 0;
};

/// Draws windows at temperature 1, each beginning with `bos`, several at once. Returns ids [windows *
/// window]. An end-of-text token ends nothing: the model goes on as it learned to. The same seed gives the
/// same ids. Throws Error when a window does not fit in the model's context.
std::vector<int32_t> sample_text(Model& model, int32_t bos, const SelfTextOptions& options,
                                 Reporter& reporter);

/// About how many seconds sample_text will take, from a few steps of as many windows as it runs at once.
/// Throws Error as it does.
double sampling_seconds(Model& model, int32_t bos, const SelfTextOptions& options);

}  // namespace tessera
