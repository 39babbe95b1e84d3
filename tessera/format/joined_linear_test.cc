// Layers joined along their outputs.
#include "tessera/format/joined_linear.h"

#include <gtest/gtest.h>

#include "tessera/format/random_layer.h"
#include "tessera/format/reference.h"

namespace tessera {
namespace {

/// Outputs [m, n] of the reference arithmetic.
std::vector<float> forward(const QuantizedLinear& linear, std::span<const float> x, int64_t m) {
  std::vector<float> y(static_cast<size_t>(m * linear.n));
  reference_forward(linear, x, m, y);
  return y;
}

TEST(JoinedLinear, ComputesTheOutputsOfItsParts) {
  const int64_t m = 3, k = 64;
  for (const LayerOptions& options :
       {LayerOptions{.format = WeightFormat::kInt4, .k = k, .bias = true},
        LayerOptions{.format = WeightFormat::kInt8, .k = k, .activation = {.bits = 4, .symmetric = false}},
        LayerOptions{.format = WeightFormat::kUint4Grouped, .k = k, .group_size = 32, .group_zeros = true},
        LayerOptions{
            .format = WeightFormat::kUint4Float, .k = k, .group_size = 32, .activation = {.bits = 16}}}) {
    std::vector<QuantizedLinear> parts;
    for (int64_t n : {32, 6, 17}) {
      LayerOptions part = options;
      part.n = n;
      parts.push_back(random_layer(part, static_cast<unsigned>(n)));
    }
    const QuantizedLinear* pointers[] = {&parts[0], &parts[1], &parts[2]};
    ASSERT_TRUE(can_join(parts[0], parts[1]) && can_join(parts[1], parts[2]));
    const QuantizedLinear joined = join_outputs(pointers);
    joined.validate("joined");
    const auto x = random_floats(m * k, 5);
    const auto y = forward(joined, x, m);
    int64_t first = 0;
    for (const QuantizedLinear& part : parts) {
      const auto expected = forward(part, x, m);
      for (int64_t t = 0; t < m; ++t) {
        for (int64_t n = 0; n < part.n; ++n) {
          EXPECT_EQ(y[static_cast<size_t>(t * joined.n + first + n)],
                    expected[static_cast<size_t>(t * part.n + n)]);
        }
      }
      first += part.n;
    }
    EXPECT_EQ(joined.n, first);
  }
}

TEST(JoinedLinear, RefusesWhatDiffers) {
  const QuantizedLinear plain = random_layer({}, 1);
  EXPECT_FALSE(can_join(plain, random_layer({.format = WeightFormat::kInt8}, 1)));
  EXPECT_FALSE(can_join(plain, random_layer({.bias = true}, 1)));
  EXPECT_FALSE(can_join(plain, random_layer({.activation = {.bits = 4}}, 1)));
  EXPECT_FALSE(can_join(random_layer({.format = WeightFormat::kUint4Grouped, .group_size = 32}, 1),
                        random_layer({.format = WeightFormat::kUint4Grouped, .group_size = 64}, 1)));
}

}  // namespace
}  // namespace tessera
