// The programs as a user meets them: run through the shell, judged by exit status and output. Test code only.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"
#include "tessera/format/safetensors.h"

namespace tessera {

namespace fs = std::filesystem;
using nlohmann::json;

inline const fs::path kDemo = fs::path(TESSERA_SOURCE_DIR) / "models" / "demo-llama";

struct Outcome {
  int status = 0;
  std::string out, err;
};

class Cli : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::temp_directory_path() /
           fmt::format("tessera_cli_{}_{}", getpid(),
                       testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }

  /// Runs tessera with these arguments through the shell, which feeds it the file `input`.
  Outcome run(const std::string& arguments, const fs::path& input = "/dev/null") {
    const fs::path out = dir_ / "stdout", err = dir_ / "stderr";
    const std::string command =
        fmt::format("{} {} >{} 2>{} <{}", program_, arguments, out.string(), err.string(), input.string());
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(out), read_file(err)};
  }

  /// Expects exit status 2 and one line on stderr that holds every word of `words`.
  void expect_refusal(const std::string& arguments, const std::vector<std::string>& words) {
    const Outcome o = run("-q " + arguments);
    EXPECT_EQ(o.status, 2) << arguments << "\n" << o.err;
    EXPECT_EQ(std::ranges::count(o.err, '\n'), 1) << o.err;
    for (const std::string& word : words)
      EXPECT_NE(o.err.find(word), std::string::npos) << "'" << word << "' in: " << o.err;
    EXPECT_FALSE(fs::exists(dir_ / "out")) << arguments;
    EXPECT_FALSE(fs::exists(dir_ / "out.partial")) << arguments;
  }

  /// A copy of the bundled model, to be damaged.
  fs::path copy_model() {
    const fs::path copy = dir_ / "model";
    fs::remove_all(copy);
    fs::copy(kDemo, copy);
    return copy;
  }

  /// Rewrites the copy's weights, each tensor passed through `change` (which may rename or replace it).
  fs::path changed_model(const std::function<void(std::string& name, Tensor& tensor)>& change) {
    const fs::path copy = copy_model();
    const SafetensorsFile original(kDemo / "model.safetensors");
    std::vector<std::pair<std::string, Tensor>> tensors;
    for (const auto& [name, view] : original.tensors()) {
      tensors.emplace_back(name, Tensor(view));
      change(tensors.back().first, tensors.back().second);
    }
    std::vector<NamedTensor> named;
    for (const auto& [name, tensor] : tensors) named.push_back({name, tensor.view()});
    write_safetensors(copy / "model.safetensors", named);
    return copy;
  }

  void edit_config(const fs::path& model, const std::function<void(json&)>& edit) {
    json config = json::parse(read_file(model / "config.json"));
    edit(config);
    write_file(model / "config.json", config.dump());
  }

  std::string quantize(const fs::path& model, const std::string& more = "") {
    return fmt::format("quantize {} --calib {} --windows 2 --tokens 64 -o {} {}", model.string(),
                       text().string(), (dir_ / "out").string(), more);
  }

  /// Enough English for small windows.
  fs::path text() {
    const fs::path path = dir_ / "text.txt";
    std::string content;
    for (int i = 0; i < 60; ++i)
      content +=
          fmt::format("The history of the city, part {}, begins with a river and a small market.\n", i);
    write_file(path, content);
    return path;
  }

  fs::path dir_;
  std::string program_ = TESSERA_BINARY;
};

}  // namespace tessera
