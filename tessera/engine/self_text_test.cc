// Text sampled from the bundled demonstration model.
#include "tessera/engine/self_text.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tessera/base/error.h"
#include "tessera/base/test_paths.h"
#include "tessera/kernels/backends.h"
#include "tessera/model/context.h"

namespace tessera {
namespace {

constexpr int32_t kBos = 1;

class SelfText : public testing::Test {
 protected:
  std::vector<int32_t> sample(int64_t windows, uint64_t seed) {
    Reporter silent;
    return sample_text(*model_, kBos, {.windows = windows, .window = 24, .seed = seed}, silent);
  }
  std::unique_ptr<Backend> backend_ = make_backend("cpu");
  std::unique_ptr<Model> model_ =
      Model::load(std::filesystem::path(TESSERA_SOURCE_DIR) / "models/demo-llama", *backend_);
};

TEST_F(SelfText, WindowsBeginWithBosAndDependOnTheSeedAlone) {
  const auto ids = sample(3, 5);
  ASSERT_EQ(ids.size(), 3u * 24);
  for (size_t i = 0; i < ids.size(); i += 24) EXPECT_EQ(ids[i], kBos);
  EXPECT_EQ(ids, sample(3, 5));
  EXPECT_NE(ids, sample(3, 6));
  EXPECT_FALSE(std::equal(ids.begin(), ids.begin() + 24, ids.begin() + 24));
  const auto first = sample(1, 5);  // a batch of another size
  EXPECT_TRUE(std::equal(first.begin(), first.end(), ids.begin()));
}

TEST_F(SelfText, TheModelFindsItsOwnTextLikely) {
  const auto ids = sample(3, 1);
  double nll = 0;
  for (size_t w = 0; w < 3; ++w) {
    Context context(*model_, 24);
    for (size_t i = 0; i + 1 < 24; ++i) {
      const auto logits = context.forward({&ids[w * 24 + i], 1});
      double total = 0;
      for (float logit : logits) total += std::exp(double{logit});
      nll += std::log(total) - double{logits[static_cast<size_t>(ids[w * 24 + i + 1])]};
    }
  }
  EXPECT_LT(nll / (3 * 23), 5.0);  // uniform ids would cost log 4096 = 8.3 and more
}

/// Extrapolated, so that twice the windows in rounds of their own take twice as long.
TEST_F(SelfText, SaysHowLongItWillTake) {
  const double some = sampling_seconds(*model_, kBos, {.windows = 128, .window = 24}),
               more = sampling_seconds(*model_, kBos, {.windows = 128 * 40, .window = 24});
  EXPECT_GT(some, 0);
  EXPECT_GT(more, 5 * some);
}

TEST_F(SelfText, ImpossibleWindowsAreRefused) {
  Reporter silent;
  EXPECT_THROW(sampling_seconds(*model_, kBos, {.windows = 1, .window = 513}), Error);
  EXPECT_THROW(sample_text(*model_, kBos, {.windows = 1, .window = 513}, silent), Error);
  EXPECT_THROW(sample_text(*model_, kBos, {.windows = 0, .window = 24}, silent), Error);
}

}  // namespace
}  // namespace tessera
