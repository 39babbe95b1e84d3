// Files of a data set, found and read.
#include "tessera/tasks/documents.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "tessera/base/atomic_output.h"
#include "tessera/base/json_node.h"
#include "tessera/tasks/parquet/parquet.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

std::vector<Document> read_lines(std::string_view text, const std::string& file) {
  std::vector<Document> documents;
  for (size_t line = 1; !text.empty(); ++line) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view one = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (one.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    documents.push_back(parse_ordered_json(one, fmt::format("{}: line {}", file, line)));
  }
  return documents;
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// Whether the name, in small letters, has `word` between characters that are no letters.
bool has_word(const std::string& name, std::string_view word) {
  const auto is_letter = [&](size_t i) {
    return i < name.size() && std::isalpha(static_cast<unsigned char>(name[i]));
  };
  for (size_t at = name.find(word); at != std::string::npos; at = name.find(word, at + 1)) {
    if (!(at > 0 && is_letter(at - 1)) && !is_letter(at + word.size())) return true;
  }
  return false;
}

std::vector<fs::path> data_files(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry :
       fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied)) {
    const std::string extension = entry.path().extension().string();
    const bool is_data = extension == ".jsonl" || extension == ".json" || extension == ".parquet";
    if (is_data && entry.is_regular_file()) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

}  // namespace

std::vector<Document> read_documents(const fs::path& file) {
  if (file.extension() == ".parquet" || is_parquet(file)) return read_parquet(file);
  const std::string whole = read_file(file);
  std::string_view text = whole;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  const size_t first = text.find_first_not_of(" \t\r\n");
  std::vector<Document> documents;
  if (first != std::string_view::npos && text[first] == '[') {
    for (auto& entry : parse_ordered_json(text, file.string())) documents.emplace_back(std::move(entry));
  } else {
    documents = read_lines(text, file.string());
  }
  for (size_t i = 0; i < documents.size(); ++i) {
    if (!documents[i].is_object()) throw Error("{}: entry {} is no object", file.string(), i + 1);
  }
  return documents;
}

std::vector<fs::path> split_files(const fs::path& folder, const std::vector<std::string>& splits) {
  const std::vector<fs::path> files = data_files(folder);
  for (const std::string& split : splits) {
    std::vector<fs::path> found;
    for (const fs::path& file : files) {
      // Hugging Face's converted files lie in folders that are named for the split.
      const fs::path parent = file.parent_path() == folder ? fs::path() : file.parent_path().filename();
      const std::string word = lower(split);
      if (has_word(lower(file.filename().string()), word) || has_word(lower(parent.string()), word))
        found.push_back(file);
    }
    if (!found.empty()) return found;
  }
  throw Error("{}: no .parquet, .jsonl or .json file whose name has the word {}", folder.string(),
              fmt::join(splits, " or "));
}

}  // namespace tessera
