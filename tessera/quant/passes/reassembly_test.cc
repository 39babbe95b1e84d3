// Disassembly, assembly and the threshold search ("QLLM").
#include "tessera/quant/passes/reassembly.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tessera/base/error.h"
#include "tessera/format/reference.h"
#include "tessera/quant/block/fake_quant.h"
#include "tessera/quant/grid/weight_grid.h"

namespace tessera {
namespace {

struct Site {
  at::Tensor x, weight, absmax;
};

Site random_site(int64_t k, double loud = 30) {
  at::manual_seed(21);
  Site site{at::randn({120, k}), at::randn({20, k}), {}};
  site.x.select(1, 3).mul_(loud);
  site.x.select(1, k - 2).mul_(loud / 4);
  site.absmax = std::get<0>(site.x.abs().max(0));
  return site;
}

ChannelMap reassembled(const Site& site, double theta, const ReassemblyLayout& layout) {
  return reassemble(merge_distances(site.x, site.weight, MergeMetric::kError),
                    split_counts(site.absmax, theta), layout);
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

at::Tensor output(const Site& site, const ChannelMap& map) {
  return at::matmul(map.repeated(map.apply(site.x)), map.fold(site.weight).t());
}

TEST(Disassembly, T1_NothingToSplitIsTheIdentity) {
  const Site site = random_site(32);
  const ChannelMap map = reassembled(site, site.absmax.max().item<double>(), {});
  EXPECT_TRUE(map.identity());
  EXPECT_TRUE(map.apply(site.x).is_same(site.x));
  EXPECT_TRUE(map.fold(site.weight).is_same(site.weight));
}

TEST(Disassembly, T2_T3_KeepsTheFunctionAndBoundsTheRange) {
  const Site site = random_site(32);
  const at::Tensor exact = at::matmul(site.x, site.weight.t());
  int64_t last = 1 << 20;
  for (const double theta : {0.7, 2.0, 5.0, 20.0}) {
    const std::vector<int64_t> parts = split_counts(site.absmax, theta);
    const int64_t total = std::accumulate(parts.begin(), parts.end(), int64_t{0});
    EXPECT_LE(total, last);
    last = total;
    const ChannelMap map = reassembled(site, theta, {.assemble = false, .alignment = 1});
    EXPECT_EQ(map.columns(), total);
    EXPECT_LE(map.apply(site.x).abs().max().item<double>(), theta * (1 + 1e-6));
    EXPECT_LT(difference(output(site, map), exact), 1e-5);
  }
}

TEST(Disassembly, T4_CopiesAreAdjacentAndEqual) {
  const Site site = random_site(32);
  const std::vector<int64_t> parts = split_counts(site.absmax, 10);
  ASSERT_GT(parts[3], 2);
  const ChannelMap map = reassembled(site, 10, {.assemble = false, .alignment = 1});
  const at::Tensor mapped = map.apply(site.x);
  EXPECT_TRUE(at::equal(mapped.narrow(1, 0, 3), site.x.narrow(1, 0, 3)));
  for (int64_t copy = 3; copy < 3 + parts[3]; ++copy)
    EXPECT_TRUE(at::equal(mapped.select(1, copy), mapped.select(1, 3)));
  EXPECT_TRUE(at::equal(map.fold(site.weight).select(1, 4), site.weight.select(1, 3)));
}

TEST(Disassembly, FillsTheWidthWithZeros) {
  const Site site = random_site(32);
  const ChannelMap map = reassembled(site, 10, {.assemble = false, .alignment = 32});
  EXPECT_EQ(map.columns() % 32, 0);
  EXPECT_EQ(map.fold(site.weight).select(1, map.columns() - 1).abs().max().item<float>(), 0);
  EXPECT_LT(difference(output(site, map), at::matmul(site.x, site.weight.t())), 1e-5);
}

TEST(Assembly, T5_KeepsTheWidth) {
  const Site site = random_site(40);
  for (const double theta : {8.0, 12.0, 20.0, 40.0}) {
    const std::vector<int64_t> parts = split_counts(site.absmax, theta);
    const ChannelMap map = reassembled(site, theta, {});
    EXPECT_EQ(map.columns(), 40) << theta;
    QuantizedLinear linear;
    map.attach(linear);
    std::vector<int> uses(40, 0);  // a split channel in its own columns, any other in one
    const auto index = linear.input_index.as<int32_t>(), offset = linear.input_offset.as<int32_t>();
    for (size_t c = 0; c < 40; ++c) {
      for (int32_t i = offset[c]; i < offset[c + 1]; ++i) {
        const auto channel = static_cast<size_t>(index[static_cast<size_t>(i)]);
        ++uses[channel];
        EXPECT_TRUE(parts[channel] == 1 || offset[c + 1] - offset[c] == 1) << "a split channel was merged";
      }
    }
    for (size_t k = 0; k < 40; ++k) EXPECT_EQ(uses[k], parts[k]);
  }
}

TEST(Assembly, T6_EqualChannelsMergeWithoutLoss) {
  for (const bool equal_inputs : {true, false}) {
    Site site = random_site(32);
    // Neighbours by rank, so that one may merge into the other.
    at::Tensor& m = equal_inputs ? site.x : site.weight;
    m.select(1, 10).copy_(m.select(1, 11));
    const at::Tensor distances = merge_distances(site.x, site.weight, MergeMetric::kError);
    EXPECT_NEAR(distances[10][11].item<double>(), 0, 1e-9);
    std::vector<int64_t> parts(32, 1);
    parts[0] = 2;
    parts[1] = 1;
    const std::vector<Merge> merges = match_channels(distances, parts, 1);
    ASSERT_EQ(merges.size(), 1u);
    EXPECT_EQ(std::min(merges[0].source, merges[0].target), 10);
    EXPECT_EQ(std::max(merges[0].source, merges[0].target), 11);
    EXPECT_LT(difference(output(site, reassemble(distances, parts, {})), at::matmul(site.x, site.weight.t())),
              1e-5);
    if (!equal_inputs) {
      const at::Tensor legacy = merge_distances(site.x, site.weight, MergeMetric::kLegacy);
      EXPECT_GT(legacy[10][11].item<double>(), 1e-3) << "the published program misses this pair";
    }
  }
}

TEST(Assembly, T7_DistanceIsTheErrorOfTheMerge) {
  const Site site = random_site(24);
  const at::Tensor distances = merge_distances(site.x, site.weight, MergeMetric::kError);
  EXPECT_TRUE(at::allclose(distances, distances.t(), 1e-5));
  EXPECT_GE(distances.min().item<float>(), 0);
  for (const auto& [i, j] : {std::pair<int64_t, int64_t>{0, 1}, {3, 8}, {20, 5}}) {
    const at::Tensor dx = (site.x.select(1, i) - site.x.select(1, j)).to(at::kDouble);
    const at::Tensor dw = (site.weight.select(1, i) - site.weight.select(1, j)).to(at::kDouble);
    const double brute = (at::ger(dx, dw) * 0.5).square().sum().item<double>();
    EXPECT_NEAR(distances[i][j].item<double>(), brute, 1e-5 * brute);
  }
  const at::Tensor shifted = site.weight.clone(), shift = at::randn({20});
  shifted.select(1, 4).add_(shift);
  shifted.select(1, 9).add_(shift);
  EXPECT_NEAR(merge_distances(site.x, shifted, MergeMetric::kError)[4][9].item<double>(),
              distances[4][9].item<double>(), 1e-4 * distances[4][9].item<double>());
}

TEST(Assembly, T8_T9_GroupsAverageInputsAndAddWeights) {
  const at::Tensor distances = at::full({6, 6}, 9.0f);
  distances[0][1] = 1;
  distances[2][1] = 2;
  const std::vector<int64_t> parts = {1, 1, 1, 1, 1, 3};
  const ChannelMap map = reassemble(distances, parts, {});
  at::manual_seed(2);
  const at::Tensor x = at::randn({5, 6}), w = at::randn({3, 6});
  EXPECT_EQ(map.columns(), 6);
  const at::Tensor mean = (x.select(1, 0) + x.select(1, 1) + x.select(1, 2)) / 3;
  EXPECT_TRUE(at::allclose(map.apply(x).select(1, 0), mean));
  EXPECT_TRUE(at::allclose(map.fold(w).select(1, 0), w.narrow(1, 0, 3).sum(1)));
  at::Tensor error = at::zeros({5, 3});
  for (int64_t s = 0; s < 3; ++s) error.add_(at::ger(x.select(1, s) - mean, w.select(1, s)));
  EXPECT_TRUE(
      at::allclose(at::matmul(x, w.t()) - at::matmul(map.apply(x), map.fold(w).t()), error, 1e-4, 1e-5));
  EXPECT_TRUE(match_channels(distances, parts, 0).empty());
  EXPECT_THROW(match_channels(distances, parts, 4), Error);
}

TEST(Assembly, T9_TiesGoToTheSmallerIndex) {
  const at::Tensor distances = at::ones({8, 8});
  const std::vector<int64_t> parts(8, 1);
  const std::vector<Merge> merges = match_channels(distances, parts, 2);
  EXPECT_EQ(merges[0].source, 0);
  EXPECT_EQ(merges[0].target, 1);
  EXPECT_EQ(merges[1].source, 2);
}

/// The output error of the site with inputs and weights rounded to 4 bits.
double quantized_loss(const Site& site, const ChannelMap& map) {
  const at::Tensor rows = map.repeated(fake_quantize_rows(map.apply(site.x), {4, false, true}));
  const at::Tensor weight = map.fold(site.weight);
  const WeightGrid grid = fit_grid(weight, {4, 0, false}, {});
  const at::Tensor y = at::matmul(rows, fake_quantize_weight(grid, weight).t());
  return (y - at::matmul(site.x, site.weight.t())).square().mean().item<double>();
}

Reassembly searched(const Site& site, const ReassemblyLayout& layout, const ThetaSearch& options) {
  return search_reassembly(site.absmax, merge_distances(site.x, site.weight, MergeMetric::kError), layout,
                           options, [&](const ChannelMap& map) { return quantized_loss(site, map); });
}

TEST(ThetaSearch, T11_T12_SplitsAPlantedOutlier) {
  // A weak channel that is loud: it only ruins everybody's resolution.
  Site site = random_site(128, 100);
  site.weight.select(1, 3).mul_(0.01);
  site.weight.select(1, 126).mul_(0.04);
  for (const ReassemblyLayout& layout : {ReassemblyLayout{}, {.assemble = false}, {.max_repeat = 8}}) {
    const Reassembly best = searched(site, layout, {.candidates = 1000});
    EXPECT_GE(split_counts(site.absmax, best.theta)[3], 2);
    EXPECT_LT(best.loss, 0.2 * best.identity_loss);
    EXPECT_EQ(best.loss, quantized_loss(site, best.map)) << "the winner is what is deployed";
  }
}

TEST(ThetaSearch, T13_T14_IdentityWinsWithoutQuantizationAndConstantInputsEnd) {
  const Site site = random_site(64);
  const at::Tensor distances = merge_distances(site.x, site.weight, MergeMetric::kError);
  const at::Tensor exact = at::matmul(site.x, site.weight.t());
  const Reassembly best = search_reassembly(site.absmax, distances, {}, {}, [&](const ChannelMap& map) {
    return (output(site, map) - exact).square().sum().item<double>();
  });
  EXPECT_TRUE(best.map.identity());
  EXPECT_EQ(best.loss, 0);
  int64_t most = 0;
  searched(site, {}, {.max_expansion = 0.1, .candidates = 1000});
  search_reassembly(site.absmax, distances, {}, {.max_expansion = 0.1, .candidates = 1000},
                    [&](const ChannelMap& m) {
                      QuantizedLinear linear;
                      m.attach(linear);
                      most = std::max<int64_t>(most, m.identity() ? 0 : linear.input_index.size() - 64);
                      return 1.0;
                    });
  EXPECT_LE(most, 6);
  const at::Tensor flat = at::full({64}, 2.0f);
  EXPECT_TRUE(
      search_reassembly(flat, distances, {}, {}, [](const ChannelMap&) { return 1.0; }).map.identity());
}

TEST(ThetaSearch, FixedThetaIsTaken) {
  const Site site = random_site(128);
  const double median = site.absmax.median().item<double>();
  const Reassembly fixed = searched(site, {}, {.theta = 4});
  EXPECT_GE(fixed.theta, 4 * median);
  EXPECT_LT(fixed.theta, 5 * median);
  EXPECT_EQ(fixed.evaluations, 2);
}

TEST(ThetaSearch, EndsWhereNothingIsLeftToMerge) {
  at::Tensor absmax = at::full({64}, 10.0f);
  absmax[0] = 1;
  absmax[1] = 20;  // the first that needs a second column, when only channel 0 is still whole
  int64_t scored = 0;
  search_reassembly(absmax, at::ones({64, 64}), {.max_repeat = 8}, {.candidates = 1000},
                    [&](const ChannelMap&) { return static_cast<double>(++scored); });
  EXPECT_GT(scored, 5);
}

/// Accumulators of the integer layer that stands behind a map.
std::vector<int32_t> accumulators(const Site& site, const ChannelMap& map) {
  const at::Tensor weight = map.fold(site.weight);
  const WeightGrid grid = fit_grid(weight, {4, 0, false}, {});
  QuantizedLinear linear = make_quantized_linear(grid, round_to_grid(grid, weight), {4, true, true}, {});
  map.attach(linear);
  linear.validate("test");
  std::vector<int32_t> acc;
  std::vector<float> y(static_cast<size_t>(site.x.size(0) * linear.n));
  const at::Tensor x = site.x.contiguous();
  reference_forward(linear, {x.data_ptr<float>(), static_cast<size_t>(x.numel())}, x.size(0), y, &acc);
  return acc;
}

TEST(VirtualDisassembly, T28_SumsAreThoseOfRealCopies) {
  for (const double loud : {4.0, 30.0, 150.0}) {
    const Site site = random_site(64, loud);
    const double theta = site.absmax.median().item<double>() * 1.5;
    const ChannelMap real = reassembled(site, theta, {.assemble = false, .alignment = 2}),
                     shared = reassembled(site, theta, {.assemble = false, .max_repeat = 8, .alignment = 2});
    EXPECT_LT(shared.columns(), real.columns());
    EXPECT_EQ(accumulators(site, real), accumulators(site, shared));
  }
}

}  // namespace
}  // namespace tessera
