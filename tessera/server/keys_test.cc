// Keys and metrics.
#include "tessera/server/keys.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"
#include "tessera/server/api_error.h"
#include "tessera/server/metrics.h"

namespace tessera {
namespace {

TEST(Keys, WithoutKeysWhoeverAsksIsNobody) {
  const Keys keys({}, "");
  EXPECT_EQ(keys.check("").id, 0);
  EXPECT_EQ(keys.check("Bearer ").id, 0);
}

TEST(Keys, OwnersKeepTheirIdsWhenTheFileIsReadAgain) {
  const auto file = std::filesystem::temp_directory_path() / fmt::format("tessera_keys_{}", getpid());
  write_file(file, "# ours\nann:secret-a\nbob:secret-b\n");
  Keys keys({"given"}, file);
  EXPECT_EQ(keys.size(), 3u);
  EXPECT_EQ(keys.check("Bearer secret-b").name, "bob");
  const int32_t bob = keys.check("Bearer secret-b").id;
  for (const char* wrong : {"", "Bearer ", "Bearer secret", "secret-a", "Basic secret-a"}) {
    EXPECT_THROW(keys.check(wrong), ApiError) << wrong;
  }
  write_file(file, "bob:another\n");
  keys.reload();
  EXPECT_EQ(keys.check("Bearer another").id, bob);
  EXPECT_THROW(keys.check("Bearer secret-a"), ApiError);
  write_file(file, "no colon\n");
  EXPECT_THROW(keys.reload(), Error);
  EXPECT_EQ(keys.check("Bearer another").id, bob) << "a broken file changes nothing";
  std::filesystem::remove(file);
}

TEST(Metrics, ArePrintedAsPrometheusReadsThem) {
  Metrics metrics("tessera_", "a\"b");
  metrics.count("generated_tokens_total", 3);
  metrics.count("generated_tokens_total");
  metrics.set("requests_running", 2);
  metrics.observe("step_seconds", 0.003, "kind=\"decode\"");
  metrics.observe("step_seconds", 100, "kind=\"decode\"");
  const std::string text = metrics.text();
  for (const char* line : {"# TYPE tessera_generated_tokens_total counter\n",
                           "tessera_generated_tokens_total{model=\"a\\\"b\"} 4\n",
                           "tessera_requests_running{model=\"a\\\"b\"} 2\n",
                           "tessera_step_seconds_bucket{model=\"a\\\"b\",kind=\"decode\",le=\"0.002\"} 0\n",
                           "tessera_step_seconds_bucket{model=\"a\\\"b\",kind=\"decode\",le=\"0.005\"} 1\n",
                           "tessera_step_seconds_bucket{model=\"a\\\"b\",kind=\"decode\",le=\"+Inf\"} 2\n",
                           "tessera_step_seconds_count{model=\"a\\\"b\",kind=\"decode\"} 2\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  }
}

}  // namespace
}  // namespace tessera
