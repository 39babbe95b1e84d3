// The map is a double-array trie as Darts-clone lays it out, then the replacements, each ended by a NUL.
#include "tessera/source/sentencepiece_check.h"

#include "tessera/source/protobuf_parser.h"

namespace tessera {
namespace {

constexpr uint64_t kNormalizerSpec = 3, kPrecompiledCharsmap = 2;  ///< numbers of fields

struct Unit {
  uint32_t bits;

  bool is_value() const { return bits >> 31 != 0; }
  bool has_value() const { return (bits >> 8 & 1) != 0; }
  uint32_t value() const { return bits & 0x7FFFFFFF; }
  /// From the place of this unit to those of its children, by exclusive or.
  uint32_t offset() const { return bits >> 10 << ((bits & 1u << 9) >> 6); }
};

bool stays_inside(std::string_view map) {
  uint32_t trie_bytes = 0;
  if (map.size() <= sizeof trie_bytes) return map.empty();
  std::memcpy(&trie_bytes, map.data(), sizeof trie_bytes);
  map.remove_prefix(sizeof trie_bytes);
  if (trie_bytes == 0 || trie_bytes >= map.size() || trie_bytes % sizeof(Unit) != 0 || map.back() != 0)
    return false;
  const size_t units = trie_bytes / sizeof(Unit), replacements = map.size() - trie_bytes;
  const auto unit = [&](size_t i) {
    Unit u;
    std::memcpy(&u, map.data() + i * sizeof u, sizeof u);
    return u;
  };
  for (size_t i = 0; i < units; ++i) {
    const Unit u = unit(i);
    if (u.is_value()) continue;
    const size_t children = i ^ u.offset();  // and the 256 places that differ in the lowest byte
    if ((children | 0xFF) >= units) return false;
    if (u.has_value() && unit(children).value() >= replacements) return false;
  }
  return true;
}

}  // namespace

void check_sentencepiece(std::string_view bytes, const std::string& file) {
  ProtobufParser(bytes, file).fields([&](const ProtobufField& field) {
    if (field.number != kNormalizerSpec) return;
    ProtobufParser(field.bytes, file).fields([&](const ProtobufField& inner) {
      if (inner.number == kPrecompiledCharsmap && !stays_inside(inner.bytes))
        throw Error("{}: the map of its normalizer leads out of itself; the file is damaged", file);
    });
  });
}

}  // namespace tessera
