// Tests of AtomicFolder, and of what it makes of the leftovers of a killed process.
#include "tessera/base/atomic_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

class AtomicFolderTest : public testing::Test {
 protected:
  AtomicFolderTest() { fs::create_directories(dir_); }
  ~AtomicFolderTest() override { fs::remove_all(dir_); }

  /// What a process leaves in out.partial that ends between two files; `more` is done there, too.
  void leave_partial(const std::function<void(AtomicFolder&)>& more = {}) const {
    const pid_t child = fork();
    if (child == 0) {
      AtomicFolder folder(dir_ / "out");
      write_file(folder.file("a"), "old");
      folder.file("b");
      std::ofstream(folder.partial() / "b.partial") << "half of it";
      if (more) more(folder);
      _exit(0);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
  }
  std::string error() const {
    try {
      AtomicFolder folder(dir_ / "out");
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }

  const fs::path dir_ = fs::temp_directory_path() / fmt::format("tessera_atomic_folder_{}", ::getpid());
  const fs::path partial_ = dir_ / "out.partial";
};

TEST_F(AtomicFolderTest, AppearsWholeOrNotAtAll) {
  {
    AtomicFolder abandoned(dir_ / "out");
    write_file(abandoned.file("a"), "x");
  }
  EXPECT_TRUE(fs::is_empty(dir_));
  AtomicFolder folder(dir_ / "out");
  write_file(folder.file("a"), "x");
  EXPECT_THAT(error(), testing::HasSubstr(fmt::format("process {} is working here", ::getpid())));
  folder.commit();
  EXPECT_FALSE(fs::exists(partial_));
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_ / "out"), {}), 1) << "no mark of ours";
  EXPECT_THAT(error(), testing::HasSubstr("out: is there already"));
}

TEST_F(AtomicFolderTest, ReplacesWhatAKilledProcessLeft) {
  leave_partial();
  ASSERT_TRUE(fs::exists(partial_ / "a"));
  AtomicFolder folder(dir_ / "out");
  EXPECT_FALSE(fs::exists(partial_ / "a"));
  write_file(folder.file("c"), "new");
  folder.commit();
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_ / "out"), {}), 1);
  EXPECT_EQ(read_file(dir_ / "out" / "c"), "new");
}

TEST_F(AtomicFolderTest, RemovesNothingThatIsNotOurs) {
  fs::create_directory(partial_);
  write_file(partial_ / "a", "mine");
  EXPECT_THAT(error(), testing::HasSubstr("out.partial: not made by tessera"));
  fs::remove_all(partial_);
  write_file(partial_, "mine");
  EXPECT_THAT(error(), testing::HasSubstr("out.partial: not a folder"));
  fs::remove(partial_);
  for (const bool folder : {false, true}) {
    leave_partial([&](AtomicFolder& ours) {
      if (folder)
        fs::create_directories(ours.partial() / "c");
      else
        write_file(ours.partial() / "c", "mine");
    });
    EXPECT_THAT(error(), testing::HasSubstr("holds c, which no interrupted conversion wrote"));
    EXPECT_TRUE(fs::exists(partial_ / "a") && fs::exists(partial_ / "c"));
    fs::remove_all(partial_);
  }
  // Names on the list lead nowhere else, and links are not ours.
  write_file(dir_ / "kept", "mine");
  leave_partial([&](AtomicFolder& ours) {
    ours.file("../kept");
    ours.file("link");
    fs::create_symlink(dir_ / "kept", ours.partial() / "link");
  });
  EXPECT_THAT(error(), testing::HasSubstr("holds link"));
  fs::remove(partial_ / "link");
  EXPECT_EQ(error(), "");
  EXPECT_EQ(read_file(dir_ / "kept"), "mine");
}

}  // namespace
}  // namespace tessera
