// The names of a checkpoint without those that a spec reads.
#include "tessera/arch/unread_tensors.h"

#include <fmt/ranges.h>

#include <cctype>
#include <map>
#include <set>

#include "tessera/format/load_linear.h"

namespace tessera {
namespace {

constexpr size_t kMostListed = 8;

struct ReadNames {
  std::set<std::string> names;
  std::set<std::string> linears;  ///< with codes: their reader judges all tensors of that name
};

ReadNames read_names(const ModelSpec& s, const Checkpoint& checkpoint) {
  ReadNames read;
  const auto add = [&](const std::string& name) { read.names.insert({name + ".weight", name + ".bias"}); };
  read.names = {s.embedding, s.position_embedding, s.lm_head, s.lm_head_bias(), kRopeFactors};
  if (s.tied_embeddings) read.names.insert("lm_head.weight");  // equal to the embedding
  if (is_quantized(checkpoint, s.lm_head_name())) read.linears.insert(s.lm_head_name());
  add(s.embedding_norm);
  add(s.final_norm);
  for (int64_t layer = 0; layer < s.n_layers; ++layer) {
    for (NormId id : s.existing_norms()) add(s.norm_name(layer, id));
    for (LinearId id : s.linear_ids()) {
      const std::string name = s.linear_name(layer, id), stored = s.source_name(layer, id);
      if (is_quantized(checkpoint, name)) {
        read.linears.insert(name);
      } else {
        read.names.insert(stored + ".weight");
        if (s.linears[id].bias) read.names.insert(stored + ".bias");
      }
    }
  }
  return read;
}

/// The name with every run of digits between dots as an asterisk.
std::string pattern_of(const std::string& name) {
  std::string pattern;
  for (size_t begin = 0, end = 0; begin <= name.size(); begin = end + 1) {
    end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool number = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    pattern += (begin > 0 ? "." : "") + (number ? "*" : part);
  }
  return pattern;
}

}  // namespace

std::string unread_tensors(const ModelSpec& spec, const Checkpoint& checkpoint) {
  const ReadNames read = read_names(spec, checkpoint);
  std::map<std::string, int64_t> patterns;
  for (const std::string& name : checkpoint.names()) {
    if (!read.names.contains(name) && !read.linears.contains(name.substr(0, name.rfind('.'))))
      ++patterns[pattern_of(name)];
  }
  if (patterns.empty()) return "";
  std::vector<std::string> listed;
  for (const auto& [pattern, count] : patterns) {
    if (listed.size() == kMostListed) break;
    listed.push_back(count > 1 ? fmt::format("{} ({} tensors)", pattern, count) : pattern);
  }
  if (patterns.size() > kMostListed) listed.push_back(fmt::format("{} more", patterns.size() - kMostListed));
  return fmt::format("{}: stored, but no part of this model: {}", checkpoint.dir().string(),
                     fmt::join(listed, ", "));
}

}  // namespace tessera
