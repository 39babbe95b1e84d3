// The journal: what it keeps and what it refuses.
#include "tessera/quant/run/journal.h"

#include <gtest/gtest.h>

#include <limits>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

class JournalTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }

  std::string resume_error(const Fingerprint& fingerprint) {
    try {
      Journal::resume(dir_, fingerprint, {});
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }

  std::string hash_of(const std::vector<float>& values, const std::string& config = "{}") {
    write_file(dir_ / "config.json", config);
    const Tensor tensor = Tensor::from<float>(values, {static_cast<int64_t>(values.size())});
    write_safetensors(dir_ / "model.safetensors", {{"w", tensor.view()}});
    return hash_model(Checkpoint(dir_));
  }

  fs::path dir_;
  const Fingerprint fingerprint_ = {{"model", "m"}, {"recipe", "r"}};
};

TEST_F(JournalTest, RemembersFinishedBlocks) {
  Journal journal = Journal::start(dir_, fingerprint_, {"report.json"});
  journal.append({nlohmann::json{{"layer", 0}}});
  journal.append({nlohmann::json{{"layer", 1}}});
  const Journal resumed = Journal::resume(dir_, fingerprint_, {"config.json"});
  EXPECT_EQ(resumed.finished_blocks(), 2);
  EXPECT_EQ(resumed.blocks()[1]["layer"], 1);
  EXPECT_EQ(resumed.files(), (std::set<std::string>{"config.json", "report.json"})) << "of both runs";
}

TEST_F(JournalTest, SeesDamageOfTheFilesThatItKeeps) {
  write_file(dir_ / "shard", "whole");
  write_file(dir_ / "old", "stream");
  Journal journal = Journal::start(dir_, fingerprint_, {});
  journal.keep("shard", digest_file(dir_ / "shard"));
  journal.keep("old", digest_file(dir_ / "old"));
  journal.append({nlohmann::json{{"layer", 0}}});
  journal.forget("old");
  journal.append({nlohmann::json{{"layer", 1}}});
  fs::remove(dir_ / "old");
  EXPECT_EQ(resume_error(fingerprint_), "");
  write_file(dir_ / "shard", "whale");
  EXPECT_NE(resume_error(fingerprint_).find("shard: has changed since the run wrote it"), std::string::npos);
  write_file(dir_ / "shard", "who");
  EXPECT_NE(resume_error(fingerprint_).find("shard: has 3 bytes instead of 5"), std::string::npos);
  fs::remove(dir_ / "shard");
  EXPECT_NE(resume_error(fingerprint_).find("shard: missing"), std::string::npos);
}

TEST_F(JournalTest, NamesWhatDiffers) {
  Journal::start(dir_, fingerprint_, {"report.json"});
  EXPECT_EQ(resume_error(fingerprint_), "");
  EXPECT_NE(resume_error({{"model", "m"}, {"recipe", "other"}}).find("the recipe differs"),
            std::string::npos);
  EXPECT_NE(resume_error({{"model", "m"}, {"calibration", "c"}}).find("the calibration differs"),
            std::string::npos);
  EXPECT_NE(resume_error({{"model", "m"}, {"recipe", "s"}}).find("interrupted run (r, not s)"),
            std::string::npos);
}

TEST_F(JournalTest, RefusesAbsentAndDamagedFiles) {
  EXPECT_NE(resume_error(fingerprint_).find("not there"), std::string::npos);
  for (const char* text :
       {"", "{", "[]", "{}", R"({"fingerprint": 3, "blocks": []})",
        R"({"fingerprint": {"model": "m", "recipe": "r"}, "files": [], "kept": {}, "blocks": 3})",
        R"({"fingerprint": {"model": "m", "recipe": "r"}, "files": [], "kept": {"a": 1}, "blocks": []})"}) {
    write_file(dir_ / "journal.json", text);
    EXPECT_NE(resume_error(fingerprint_).find("damaged; restore it"), std::string::npos) << text;
  }
}

TEST_F(JournalTest, HashSeesEveryWeightAndTheConfig) {
  std::vector<float> values(3 << 20, 1.0f);  // 12 MiB: several slices
  const std::string hash = hash_of(values);
  EXPECT_EQ(hash_of(values), hash);
  EXPECT_NE(hash_of(values, R"({"a": 1})"), hash);
  for (size_t i : {size_t{0}, values.size() / 2, values.size() - 1}) {
    values[i] = 2;
    EXPECT_NE(hash_of(values), hash) << i;
    values[i] = 1;
  }
}

TEST_F(JournalTest, HashRefusesWeightsThatAreNotFinite) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    try {
      hash_of({1, 2, bad});
      FAIL() << "accepted " << bad;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("tensor w holds NaN or infinity"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace tessera
