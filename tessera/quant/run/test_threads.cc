// Fixes libtorch's number of threads before the first test. Left alone, libtorch chooses it at its first
// parallel operation, and what ran before, on more threads, has other bits than its repetition. quantize()
// fixes it, too.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tessera/base/parallel.h"

namespace tessera {
namespace {

class FixedThreads : public testing::Environment {
 public:
  void SetUp() override { at::set_num_threads(thread_count()); }
};

[[maybe_unused]] const testing::Environment* const kFixedThreads =
    testing::AddGlobalTestEnvironment(new FixedThreads);

}  // namespace
}  // namespace tessera
