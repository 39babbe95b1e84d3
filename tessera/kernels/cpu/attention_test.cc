// Heads, cache and attention of every instruction set against the reference backend.
#include "tessera/kernels/cpu/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/kernels/cpu/cpu_backend.h"
#include "tessera/kernels/cpu/test_attention.h"
#include "tessera/kernels/ref/reference_backend.h"
#include "tessera/kernels/single_linear.h"

namespace tessera {
namespace {

void expect_close(const Shape3& shape, int64_t past, int64_t m, const Rule& rule, KvFormat format) {
  const auto reference = make_reference_backend();
  const auto expected = run_attention(*reference, shape, past, m, rule, format);
  const double bound = attention_bound(shape, past + m);
  for (CpuIsa isa : available_cpu_isas()) {
    const auto backend = make_cpu_backend(isa);
    const auto out = run_attention(*backend, shape, past, m, rule, format);
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

/// Bytes that are equal, or floats that are both NaN.
void expect_same_bytes(const HostKvPool& a, const HostKvPool& b) {
  const auto* x = a.head(0, 0, 0);
  const auto* y = b.head(0, 0, 0);
  for (size_t i = 0; i + sizeof(float) <= a.bytes(); i += sizeof(float)) {
    if (std::memcmp(x + i, y + i, sizeof(float)) == 0) continue;
    float u, v;
    std::memcpy(&u, x + i, sizeof u);
    std::memcpy(&v, y + i, sizeof v);
    ASSERT_TRUE(std::isnan(u) && std::isnan(v)) << "at byte " << i;
  }
}

TEST_F(AttentionTest, CachesHoldTheBytesOfTheDefinition) {
  for (const Shape3& shape : {Shape3{2, 2, 80}, Shape3{3, 3, 6}, Shape3{1, 1, 256}}) {
    for (KvFormat format : {KvFormat::kF32, KvFormat::kF16, KvFormat::kInt8, KvFormat::kInt4}) {
      const int64_t m = 70, width = shape.kv_width();
      auto k = random_floats(m * width, 7), v = random_floats(m * width, 8, 1e-3f);
      std::fill_n(k.begin() + width, width, 0.0f);
      v[5] = std::numeric_limits<float>::infinity();
      auto q = k;
      const auto filled = [&](Backend& backend) {
        Batch batch;
        batch.add(std::vector<int32_t>(static_cast<size_t>(m)), 0, std::vector<int32_t>{1, 0},
                  WantedLogits::none(m));
        const auto device_batch = backend.make_batch();
        backend.upload(batch, *device_batch);
        auto pool = backend.make_kv_pool({1, shape.n_kv_heads, shape.head_dim, format}, 2);
        backend.append(host_rows(q.data(), m, width), host_rows(k.data(), m, width),
                       host_rows(v.data(), m, width), {}, *device_batch, 0, *pool);
        return pool;
      };
      const auto reference = make_reference_backend();
      const auto expected = filled(*reference);
      for (CpuIsa isa : available_cpu_isas()) {
        SCOPED_TRACE(name_of(isa));
        const auto backend = make_cpu_backend(isa);
        const auto pool = filled(*backend);
        expect_same_bytes(static_cast<HostKvPool&>(*pool), static_cast<HostKvPool&>(*expected));
      }
    }
  }
  const auto backend = make_reference_backend();
  EXPECT_THROW(backend->make_kv_pool({1, 1, 7, KvFormat::kInt8}, 4), Error);
}

TEST_F(AttentionTest, RowsDoNotDependOnTheStepsThatTheyCameIn) {
  for (const Shape3& shape : {Shape3{2, 2, 64}, Shape3{6, 1, 16}, Shape3{3, 1, 80}, Shape3{1, 1, 128}}) {
    for (const Rule& rule : {Rule{}, Rule{.window = 70}, Rule{.alibi = true}}) {
      for (KvFormat format : {KvFormat::kF32, KvFormat::kF16, KvFormat::kInt8, KvFormat::kInt4}) {
        for (CpuIsa isa : available_cpu_isas()) {
          const auto backend = make_cpu_backend(isa);
          const auto whole = Sequence(*backend, shape, 300, format).steps({300}, rule);
          EXPECT_EQ(
              Sequence(*backend, shape, 300, format).steps({1, 2, 62, 64, 1, 1, 129, 37, 1, 1, 1}, rule),
              whole)
              << name_of(isa) << ' ' << name_of(format) << ' ' << shape.head_dim;
        }
      }
    }
  }
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
    for (CpuIsa isa : available_cpu_isas()) {
      const auto backend = make_cpu_backend(isa);
      std::vector<float> k(140 * 16, sign), q(140 * 16, 1000.0f), v(140 * 16), out(16);
      for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i / 16);
      const HostKvPool pool({1, 1, 16, KvFormat::kF32}, 3);
      Batch batch;
      batch.add(std::vector<int32_t>(140), 0, std::vector<int32_t>{2, 0, 1}, WantedLogits::none(140));
      append_heads(kernels_for(isa), host_rows(q.data(), 140, 16), host_rows(k.data(), 140, 16),
                   host_rows(v.data(), 140, 16), {}, batch, 0, const_cast<HostKvPool&>(pool));
      Batch last;
      last.add(std::vector<int32_t>(1), 139, std::vector<int32_t>{2, 0, 1}, WantedLogits::all());
      attend_batch(kernels_for(isa), host_rows(q.data(), 1, 16), last, 0, pool, {},
                   host_rows(out.data(), 1, 16));
      for (float o : out) EXPECT_NEAR(o, 69.5f, 1e-3f);
    }
  }
}

TEST_F(AttentionTest, ResultsDoNotDependOnThreads) {
  for (CpuIsa isa : available_cpu_isas()) {
    const auto backend = make_cpu_backend(isa);
    for (int64_t m : {1, 70}) {
      set_thread_count(1);
      const auto one = run_attention(*backend, {8, 2, 32}, 150, m, {}, KvFormat::kF16);
      set_thread_count(3);
      EXPECT_EQ(run_attention(*backend, {8, 2, 32}, 150, m, {}, KvFormat::kF16), one);
    }
  }
}

TEST_F(AttentionTest, RefusesHeadsThatAreTooWide) {
  const auto backend = make_cpu_backend(CpuIsa::kGeneric);
  EXPECT_THROW(run_attention(*backend, {1, 1, kMaxHeadDim + 32}, 0, 1, {}, KvFormat::kF32), Error);
}

/// q and k after append() with norms and rotation, for tokens at positions 3 .. 7.
struct Heads {
  std::vector<float> q, k;
};

Heads prepared_heads(Backend& backend, bool layer_norm) {
  const int64_t m = 5, first = 3, d = 24, n_heads = 4, n_kv_heads = 2;
  const auto on_device = [&](const std::vector<float>& values) {
    auto buffer = backend.allocate(values.size() * sizeof(float));
    backend.upload(std::as_bytes(std::span(values)), *buffer);
    return buffer;
  };
  NormWeights norms[2];
  for (unsigned i = 0; i < 2; ++i) {
    norms[i].layer_norm = layer_norm;
    norms[i].eps = 1e-6f;
    norms[i].gain = on_device(random_floats(d, 7 + i));
    if (layer_norm) norms[i].bias = on_device(random_floats(d, 9 + i));
  }
  std::vector<float> cosines, sines;
  for (float angle : random_floats(20 * d / 2, 4)) {
    cosines.push_back(std::cos(angle));
    sines.push_back(std::sin(angle));
  }
  const RopeTable rope{on_device(cosines), on_device(sines)};
  Heads heads{random_floats(m * n_heads * d, 5, 3.0f), random_floats(m * n_kv_heads * d, 6, 3.0f)};
  auto v = heads.k;
  Batch batch;
  batch.add(std::vector<int32_t>(static_cast<size_t>(m)), first, std::vector<int32_t>{0},
            WantedLogits::none(m));
  const auto device_batch = backend.make_batch();
  backend.upload(batch, *device_batch);
  const auto pool = backend.make_kv_pool({1, n_kv_heads, d, KvFormat::kF16}, 1);
  backend.append(host_rows(heads.q.data(), m, n_heads * d), host_rows(heads.k.data(), m, n_kv_heads * d),
                 host_rows(v.data(), m, n_kv_heads * d),
                 {.query_norm = &norms[0], .key_norm = &norms[1], .rope = &rope}, *device_batch, 0, *pool);
  return heads;
}

TEST_F(AttentionTest, HeadsAreNormedAndRotatedAsInTheReference) {
  for (bool layer_norm : {false, true}) {
    const auto reference = make_reference_backend();
    const Heads expected = prepared_heads(*reference, layer_norm);
    for (CpuIsa isa : available_cpu_isas()) {
      const auto backend = make_cpu_backend(isa);
      const Heads heads = prepared_heads(*backend, layer_norm);
      for (size_t i = 0; i < heads.q.size(); ++i) EXPECT_NEAR(heads.q[i], expected.q[i], 1e-5);
      for (size_t i = 0; i < heads.k.size(); ++i) EXPECT_NEAR(heads.k[i], expected.k[i], 1e-5);
    }
  }
}

}  // namespace
}  // namespace tessera
