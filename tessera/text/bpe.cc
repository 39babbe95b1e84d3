// Bpe: the merge loop works on a linked list of symbols and a heap of candidate pairs.
#include "tessera/text/bpe.h"

#include <queue>

#include "tessera/text/unicode.h"

namespace tessera {
namespace {

uint64_t pair_key(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

/// Neighbours that could merge; the lowest rank goes first, among equals the leftmost.
struct Candidate {
  uint64_t order;  ///< rank << 32 | position of the left symbol
  int32_t id;      ///< of the merged token
  bool operator<(const Candidate& other) const { return order > other.order; }
};

struct Symbol {
  static constexpr int32_t kNone = -1;    ///< no neighbour
  static constexpr int32_t kMerged = -1;  ///< as an id: this symbol has become part of the one to its left

  int32_t id, previous, next;
};

std::vector<Symbol> linked_list(const std::vector<int32_t>& ids) {
  std::vector<Symbol> symbols;
  symbols.reserve(ids.size());
  const auto n = static_cast<int32_t>(ids.size());
  for (int32_t i = 0; i < n; ++i) {
    symbols.push_back({ids[static_cast<size_t>(i)], i - 1, i + 1 < n ? i + 1 : Symbol::kNone});
  }
  return symbols;
}

/// Both halves of a merge, "a b" or ["a", "b"].
std::pair<std::string, std::string> parse_merge(const JsonNode& node) {
  if (node.is_string()) {
    const std::string& text = node.string();
    const size_t blank = text.find(' ');
    if (blank == std::string::npos || text.find(' ', blank + 1) != std::string::npos) {
      node.fail("expected two tokens with a blank between them, found '{}'", text);
    }
    return {text.substr(0, blank), text.substr(blank + 1)};
  }
  const std::vector<JsonNode> halves = node.items();
  if (halves.size() != 2) node.fail("expected two tokens, found {}", halves.size());
  return {halves[0].string(), halves[1].string()};
}

void refuse_if_set(const JsonNode& node) {
  const bool set = node.is_string() ? !node.string().empty() : !node.is_null();
  if (set) node.fail("not supported; expected null");
}

}  // namespace

Bpe::Bpe(const JsonNode& node) : vocabulary_(node["vocab"]) {
  if (!node["type"].is_null() && node["type"].string() != "BPE") {
    node.fail("models of type '{}' are not supported, only BPE", node["type"].string());
  }
  refuse_if_set(node["dropout"]);
  refuse_if_set(node["continuing_subword_prefix"]);
  refuse_if_set(node["end_of_word_suffix"]);
  fuse_unknown_ = node["fuse_unk"].get_or(false);
  ignore_merges_ = node["ignore_merges"].get_or(false);
  if (node["byte_fallback"].get_or(false)) {
    for (unsigned b = 0; b < byte_ids_.size(); ++b)
      byte_ids_[b] = vocabulary_.id(fmt::format("<0x{:02X}>", b));
  }
  if (const JsonNode unknown = node["unk_token"]; !unknown.is_null()) {
    unknown_id_ = vocabulary_.id(unknown.string());
    if (!unknown_id_) unknown.fail("'{}' is not in the vocabulary", unknown.string());
  }
  read_merges(node["merges"]);
}

void Bpe::read_merges(const JsonNode& node) {
  const std::vector<JsonNode> merges = node.items();
  merges_.reserve(merges.size());
  uint32_t rank = 0;
  for (const JsonNode& merge : merges) {
    const auto [left, right] = parse_merge(merge);
    const auto require = [&](const std::string& token) {
      const auto id = vocabulary_.id(token);
      if (!id) merge.fail("'{}' is not in the vocabulary", token);
      return *id;
    };
    const uint64_t key = pair_key(require(left), require(right));
    merges_.insert_or_assign(key, Merge{rank++, require(left + right)});
  }
}

void Bpe::encode(std::string_view word, std::vector<int32_t>& ids) const {
  if (ignore_merges_) {
    if (const auto id = vocabulary_.id(word)) return ids.push_back(*id);
  }
  merge(characters(word), ids);
}

std::vector<int32_t> Bpe::characters(std::string_view word) const {
  std::vector<int32_t> ids;
  ids.reserve(word.size());
  bool unknown = false;  // an unknown token is due
  for_each_code_point(word, [&](char32_t, size_t position, size_t length) {
    const std::string_view character = word.substr(position, length);
    if (const auto id = vocabulary_.id(character)) {
      if (unknown) ids.push_back(*unknown_id_);
      unknown = false;
      ids.push_back(*id);
      return;
    }
    const auto byte_id = [&](char b) { return byte_ids_[static_cast<uint8_t>(b)]; };
    if (std::all_of(character.begin(), character.end(), byte_id)) {
      for (const char b : character) ids.push_back(*byte_id(b));
    } else if (unknown_id_) {
      if (unknown && !fuse_unknown_) ids.push_back(*unknown_id_);
      unknown = true;
    }
  });
  if (unknown) ids.push_back(*unknown_id_);
  return ids;
}

const Bpe::Merge* Bpe::find_merge(int32_t left, int32_t right) const {
  const auto it = merges_.find(pair_key(left, right));
  return it == merges_.end() ? nullptr : &it->second;
}

void Bpe::merge(const std::vector<int32_t>& characters, std::vector<int32_t>& ids) const {
  if (characters.size() > INT32_MAX)
    throw Error("cannot tokenize a word of {} characters", characters.size());
  std::vector<Symbol> symbols = linked_list(characters);
  const auto symbol = [&](int32_t position) -> Symbol& { return symbols[static_cast<size_t>(position)]; };

  std::vector<Candidate> initial;
  const auto candidate = [&](int32_t position) -> std::optional<Candidate> {
    const Symbol& left = symbol(position);
    if (left.next == Symbol::kNone) return std::nullopt;
    const Merge* merge = find_merge(left.id, symbol(left.next).id);
    if (!merge) return std::nullopt;
    return Candidate{uint64_t{merge->rank} << 32 | static_cast<uint32_t>(position), merge->id};
  };
  for (int32_t i = 0; i < static_cast<int32_t>(symbols.size()); ++i) {
    if (const auto c = candidate(i)) initial.push_back(*c);
  }
  std::priority_queue<Candidate> queue({}, std::move(initial));

  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    const auto position = static_cast<int32_t>(top.order & UINT32_MAX);
    Symbol& left = symbol(position);
    if (left.id == Symbol::kMerged) continue;
    // The pair may have changed since; what counts is whether it still gives the same token.
    const auto now = candidate(position);
    if (!now || now->id != top.id) continue;

    Symbol& right = symbol(left.next);
    left.id = top.id;
    left.next = right.next;
    right.id = Symbol::kMerged;
    if (left.next != Symbol::kNone) symbol(left.next).previous = position;
    if (left.previous != Symbol::kNone) {
      if (const auto c = candidate(left.previous)) queue.push(*c);
    }
    if (const auto c = candidate(position)) queue.push(*c);
  }
  for (const Symbol& s : symbols) {
    if (s.id != Symbol::kMerged) ids.push_back(s.id);
  }
}

}  // namespace tessera
