// Stands in for libFuzzer where the compiler is not clang: runs the files of a corpus, and seeded changes of
// each.
//   NAME_fuzz CHANGES FILE|FOLDER...
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "tessera/base/atomic_output.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

namespace fs = std::filesystem;
using Random = std::mt19937;

std::vector<fs::path> files_in(const fs::path& path) {
  if (fs::is_regular_file(path)) return {path};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

size_t below(size_t limit, Random& random) {
  return random() % limit;
}

/// One small change: a byte, a part that is cut, doubled or moved, or an end that is missing.
std::string changed(std::string text, Random& random) {
  const size_t from = below(text.size() + 1, random);
  const size_t length = below(std::min<size_t>(text.size() - from, 64) + 1, random);
  switch (random() % 5) {
    case 0:
      text.insert(from, 1, static_cast<char>(random()));
      break;
    case 1:
      text.erase(from, length);
      break;
    case 2:
      text.insert(below(text.size() + 1, random), text.substr(from, length));
      break;
    case 3:
      text.resize(from);
      break;
    default:
      if (from < text.size())
        text[from] = static_cast<char>(random() % 2 == 0 ? random() : text[from] ^ (1 << random() % 8));
  }
  return text;
}

void run(const std::string& text) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(text.data()), text.size());
}

}  // namespace

int main(int argc, char** argv) {
  const int changes = argc > 1 ? std::atoi(argv[1]) : 0;
  int inputs = 0;
  for (int i = 2; i < argc; ++i) {
    for (const fs::path& file : files_in(argv[i])) {
      fmt::print("{}\n", file.string());  // the last line names what did not come back
      std::fflush(stdout);
      const std::string text = tessera::read_file(file);
      run(text);
      Random random(1);
      for (int change = 0; change < changes; ++change) {
        std::string hostile = changed(text, random);
        while (random() % 2 == 0) hostile = changed(std::move(hostile), random);
        run(hostile);
      }
      inputs += 1 + changes;
    }
  }
  fmt::print("{} inputs\n", inputs);
  return inputs > 0 ? 0 : 1;
}
