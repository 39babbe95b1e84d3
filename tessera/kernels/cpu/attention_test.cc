// Rotary positions, cache and attention of every instruction set against the reference backend.
#include "tessera/kernels/cpu/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/kernels/cpu/isa.h"
#include "tessera/kernels/cpu/test_layers.h"

namespace tessera {
namespace {

struct Shape3 {
  int64_t n_heads, n_kv_heads, head_dim;
};

/// AttentionRule with slopes of its own for every head.
struct Rule {
  int64_t window = 0;
  bool alibi = false;
};

/// A cache of one layer with NaN wherever nothing was appended.
KvCache make_cache(Backend& backend, const Shape3& shape, int64_t capacity, KvFormat format) {
  KvCache cache = backend.make_cache(1, shape.n_kv_heads, shape.head_dim, capacity, format);
  for (auto* buffers : {&cache.keys, &cache.values, &cache.key_scales, &cache.value_scales}) {
    for (auto& buffer : *buffers) std::memset(buffer->data(), 0xff, buffer->bytes());  // NaN in every type
  }
  return cache;
}

/// Attention of m tokens behind `past` others.
std::vector<float> run(Backend& backend, const Shape3& shape, int64_t past, int64_t m, const Rule& rule,
                       KvFormat format) {
  KvCache cache = make_cache(backend, shape, past + m + 5, format);
  const int64_t kv = shape.n_kv_heads * shape.head_dim, width = shape.n_heads * shape.head_dim;
  const auto k = random_floats((past + m) * kv, 1), v = random_floats((past + m) * kv, 2);
  const auto q = random_floats(m * width, 3);
  backend.append(cache, 0, k.data(), v.data(), past);
  cache.length = past;
  backend.append(cache, 0, k.data() + past * kv, v.data() + past * kv, m);
  std::vector<float> out(static_cast<size_t>(m * width) + 1, 55.0f);
  const auto slopes = random_floats(shape.n_heads, 4, 0.1f);
  backend.attention(q.data(), cache, 0, m, shape.n_heads,
                    {.window = rule.window, .alibi_slopes = rule.alibi ? slopes.data() : nullptr},
                    out.data());
  EXPECT_EQ(out.back(), 55.0f) << "wrote past the end";
  out.pop_back();
  return out;
}

void expect_close(const Shape3& shape, int64_t past, int64_t m, const Rule& rule, KvFormat format) {
  const auto reference = make_reference_backend();
  const auto expected = run(*reference, shape, past, m, rule, format);
  // A score errs by at most gamma_d * |q| |k| / sqrt(d), here below d * 2^-24 * 2 sqrt(d); weights err by the
  // same relative amount twice (numerator and sum), and sum to one over values below 5.
  const auto d = static_cast<double>(shape.head_dim);
  const double bound =
      5 * (2 * d * 0x1p-24 * 2 * std::sqrt(d) + static_cast<double>(past + m + 64) * 0x1p-24);
  for (CpuIsa isa : available_cpu_isas()) {
    const auto backend = make_cpu_backend(isa);
    const auto out = run(*backend, shape, past, m, rule, format);
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_NEAR(out[i], expected[i], bound)
          << name_of(isa) << " at " << i << ", past " << past << ", m " << m << ", window " << rule.window;
    }
  }
}

class AttentionTest : public testing::Test {
 protected:
  void SetUp() override { set_thread_count(1); }
};

TEST_F(AttentionTest, IsCloseToTheReference) {
  for (const Shape3& shape : {Shape3{4, 4, 64}, Shape3{8, 2, 16}, Shape3{3, 1, 80}, Shape3{2, 2, 128}}) {
    for (int64_t past : {0, 3, 130}) {
      for (int64_t m : {1, 2, 7, 49}) {
        expect_close(shape, past, m, {}, m % 2 ? KvFormat::kF16 : KvFormat::kF32);
        expect_close(shape, past, m, {}, m % 2 ? KvFormat::kInt4 : KvFormat::kInt8);
      }
    }
  }
}

TEST_F(AttentionTest, SlidingWindowForgetsWhatIsFarther) {
  for (int64_t window : {1, 7, 100, 128, 1000}) {
    for (int64_t past : {0, 200}) {
      for (int64_t m : {1, 60}) {
        for (KvFormat format : {KvFormat::kF16, KvFormat::kInt4}) {
          expect_close({2, 1, 32}, past, m, {.window = window}, format);
        }
      }
    }
  }
}

TEST_F(AttentionTest, QuantizedCachesHoldTheBytesOfTheDefinition) {
  for (const Shape3& shape : {Shape3{2, 2, 80}, Shape3{3, 3, 6}, Shape3{1, 1, 256}}) {
    for (KvFormat format : {KvFormat::kInt8, KvFormat::kInt4}) {
      const int64_t m = 9, width = shape.n_kv_heads * shape.head_dim;
      auto k = random_floats(m * width, 7), v = random_floats(m * width, 8, 1e-3f);
      std::fill_n(k.begin() + width, width, 0.0f);
      v[5] = std::numeric_limits<float>::infinity();
      const auto reference = make_reference_backend();
      KvCache expected = reference->make_cache(1, shape.n_kv_heads, shape.head_dim, m, format);
      reference->append(expected, 0, k.data(), v.data(), m);
      for (CpuIsa isa : available_cpu_isas()) {
        const auto backend = make_cpu_backend(isa);
        KvCache cache = backend->make_cache(1, shape.n_kv_heads, shape.head_dim, m, format);
        backend->append(cache, 0, k.data(), v.data(), m);
        const auto same = [&](const auto& a, const auto& b) {
          return std::memcmp(a[0]->data(), b[0]->data(), a[0]->bytes()) == 0;
        };
        EXPECT_TRUE(same(cache.keys, expected.keys) && same(cache.values, expected.values)) << name_of(isa);
        EXPECT_TRUE(same(cache.key_scales, expected.key_scales)) << name_of(isa);
        const auto* scales = static_cast<const KvScale*>(cache.value_scales[0]->data());
        const auto* wanted = static_cast<const KvScale*>(expected.value_scales[0]->data());
        for (int64_t i = 0; i < m * shape.n_kv_heads; ++i) {
          EXPECT_TRUE(scales[i].scale == wanted[i].scale ||
                      (std::isnan(scales[i].scale) && std::isnan(wanted[i].scale)));
          EXPECT_EQ(scales[i].zero, wanted[i].zero);
        }
      }
    }
  }
  const auto backend = make_reference_backend();
  EXPECT_THROW(backend->make_cache(1, 1, 7, 4, KvFormat::kInt8), Error);
}

TEST_F(AttentionTest, AlibiPrefersWhatIsNear) {
  for (const Shape3& shape : {Shape3{4, 4, 64}, Shape3{12, 2, 16}}) {
    for (int64_t past : {0, 130}) {
      for (int64_t m : {1, 7, 49}) expect_close(shape, past, m, {.alibi = true}, KvFormat::kF16);
    }
  }
  expect_close({3, 1, 32}, 40, 9, {.window = 20, .alibi = true}, KvFormat::kF32);
}

TEST_F(AttentionTest, ScoresFarFromZeroStayFinite) {
  // All scores near -4000 or 4000: only their differences count.
  for (float sign : {1.0f, -1.0f}) {
    const Shape3 shape{1, 1, 16};
    for (CpuIsa isa : available_cpu_isas()) {
      const auto backend = make_cpu_backend(isa);
      KvCache cache = make_cache(*backend, shape, 140, KvFormat::kF32);
      const std::vector<float> k(140 * 16, sign), q(16, 1000.0f);
      std::vector<float> v(140 * 16), out(16);
      for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i / 16);
      backend->append(cache, 0, k.data(), v.data(), 140);
      cache.length = 139;
      backend->attention(q.data(), cache, 0, 1, 1, {}, out.data());
      for (float o : out) EXPECT_NEAR(o, 69.5f, 1e-3f);
    }
  }
}

TEST_F(AttentionTest, ResultsDoNotDependOnThreads) {
  for (CpuIsa isa : available_cpu_isas()) {
    const auto backend = make_cpu_backend(isa);
    for (int64_t m : {1, 70}) {
      set_thread_count(1);
      const auto one = run(*backend, {8, 2, 32}, 150, m, {}, KvFormat::kF16);
      set_thread_count(3);
      EXPECT_EQ(run(*backend, {8, 2, 32}, 150, m, {}, KvFormat::kF16), one);
    }
  }
}

TEST_F(AttentionTest, RefusesHeadsThatAreTooWide) {
  const auto backend = make_cpu_backend(CpuIsa::kGeneric);
  EXPECT_THROW(run(*backend, {1, 1, kMaxHeadDim + 32}, 0, 1, {}, KvFormat::kF32), Error);
}

TEST_F(AttentionTest, NormsOfHeadsAreThoseOfTheReference) {
  const int64_t rows = 5 * 4, width = 24;
  const auto gain = random_floats(width, 7), bias = random_floats(width, 8);
  const auto weights_of = [&](Backend& backend, bool layer_norm) {
    const auto upload = [&](const std::vector<float>& values) {
      auto buffer = backend.allocate(values.size() * sizeof(float));
      backend.upload(*buffer, std::as_bytes(std::span(values)));
      return buffer;
    };
    NormWeights weights;
    weights.layer_norm = layer_norm;
    weights.eps = 1e-6f;
    weights.gain = upload(gain);
    if (layer_norm) weights.bias = upload(bias);
    return weights;
  };
  const auto reference = make_reference_backend();
  for (bool layer_norm : {false, true}) {
    auto expected = random_floats(rows * width, 9, 3.0f);
    const auto x = expected;
    reference->normalize(expected.data(), rows, width, weights_of(*reference, layer_norm));
    for (CpuIsa isa : available_cpu_isas()) {
      const auto backend = make_cpu_backend(isa);
      auto y = x;
      backend->normalize(y.data(), rows, width, weights_of(*backend, layer_norm));
      for (size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], expected[i], 1e-5) << name_of(isa);
    }
  }
}

TEST_F(AttentionTest, RopeTurnsPairsByTheAngleOfTheirPosition) {
  const int64_t m = 5, first = 3, d = 24;
  const auto reference = make_reference_backend();
  const auto angles = random_floats(20 * d / 2, 4);
  std::vector<float> cosines, sines;
  for (float a : angles) {
    cosines.push_back(std::cos(a));
    sines.push_back(std::sin(a));
  }
  for (CpuIsa isa : available_cpu_isas()) {
    const auto backend = make_cpu_backend(isa);
    RopeTable table{backend->allocate(cosines.size() * 4), backend->allocate(sines.size() * 4)};
    backend->upload(*table.cos, std::as_bytes(std::span(cosines)));
    backend->upload(*table.sin, std::as_bytes(std::span(sines)));
    auto q = random_floats(m * 4 * d, 5), k = random_floats(m * 2 * d, 6);
    auto q_expected = q, k_expected = k;
    reference->rope(q_expected.data(), k_expected.data(), m, first, 4, 2, d, table);
    backend->rope(q.data(), k.data(), m, first, 4, 2, d, table);
    for (size_t i = 0; i < q.size(); ++i) EXPECT_NEAR(q[i], q_expected[i], 1e-6);
    for (size_t i = 0; i < k.size(); ++i) EXPECT_NEAR(k[i], k_expected[i], 1e-6);
  }
}

}  // namespace
}  // namespace tessera
