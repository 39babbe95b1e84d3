// The schema of a file, and rows put together from columns ("Dremel: Interactive Analysis of Web-Scale
// Datasets", section 4).
#include "tessera/tasks/parquet/parquet.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>

#include "tessera/base/error.h"
#include "tessera/base/mapped_file.h"
#include "tessera/tasks/parquet/pages.h"

namespace tessera {
namespace parquet {
namespace {

constexpr std::string_view kMagic = "PAR1";
constexpr int kMaxDepth = 32;
constexpr int64_t kMaxFields = 10'000;
constexpr int64_t kMaxRows = 5'000'000;

enum class Repetition : uint8_t { kRequired, kOptional, kRepeated };

/// A field of the schema. A leaf reads slots of its column one after another.
struct Field {
  std::string name;
  Repetition repetition = Repetition::kRequired;
  bool is_list = false;  ///< a group that says that it is one
  Levels levels = {};    ///< where it is present
  ValueKind kind = ValueKind::kSigned;
  std::vector<Field> fields = {};
  Column column = {};
  size_t slot = 0, value = 0;

  bool is_leaf() const { return fields.empty(); }
  /// False where all leaves are of types that are not read.
  bool is_read() const {
    return is_leaf() ? kind != ValueKind::kUnread : std::ranges::any_of(fields, &Field::is_read);
  }
  Field& first_leaf() { return is_leaf() ? *this : fields.front().first_leaf(); }
  bool at_end() { return slot >= column.definition.size(); }
};

/// What the numbers of a schema element mean, by its physical, its converted and its logical type.
ValueKind kind_of(const ThriftValue& element) {
  constexpr int64_t kPhysical[] = {3, 7};                    // INT96, FIXED_LEN_BYTE_ARRAY
  constexpr int64_t kConverted[] = {5, 6, 7, 8, 9, 10, 21};  // DECIMAL, DATE, TIME, TIMESTAMP, INTERVAL
  constexpr int kLogical[] = {5, 6, 7, 8, 14, 15};           // the same, UUID, FLOAT16
  constexpr int kInteger = 10, kIsSigned = 2;                // of a logical type
  const int64_t physical = element[1].integer_or(-1, 0, INT32_MAX),
                converted = element[6].integer_or(-1, 0, INT32_MAX);
  const ThriftValue& logical = element[10];
  if (std::ranges::find(kPhysical, physical) != std::end(kPhysical) ||
      std::ranges::find(kConverted, converted) != std::end(kConverted) ||
      std::ranges::any_of(kLogical, [&](int type) { return !logical[type].is_absent(); }))
    return ValueKind::kUnread;
  const bool is_unsigned =
      (converted >= 11 && converted <= 14) || !logical[kInteger][kIsSigned].boolean_or(true);
  return is_unsigned ? ValueKind::kUnsigned : ValueKind::kSigned;
}

/// The field at `at` of the flat list, with all below it.
Field read_field(const ThriftValue::List& schema, size_t& at, Levels parent, int depth) {
  if (at >= schema.size() || depth > kMaxDepth) throw Error("the schema is damaged");
  const ThriftValue& element = schema[at++];
  constexpr int64_t kListType = 3;
  constexpr int kLogicalList = 3;
  Field field{
      .name = std::string(element[4].text()),
      .repetition = depth == 0 ? Repetition::kRequired : static_cast<Repetition>(element[3].integer(0, 2)),
      .is_list =
          element[6].integer_or(-1, 0, INT32_MAX) == kListType || !element[10][kLogicalList].is_absent(),
      .levels = parent,
      .kind = kind_of(element)};
  if (field.repetition != Repetition::kRequired) ++field.levels.definition;
  if (field.repetition == Repetition::kRepeated) ++field.levels.repetition;
  const int64_t children = element[5].integer_or(0, 0, kMaxFields);
  for (int64_t i = 0; i < children; ++i)
    field.fields.push_back(read_field(schema, at, field.levels, depth + 1));
  return field;
}

void for_each_leaf(Field& field, const auto& visit) {
  if (field.is_leaf()) return visit(field);
  for (Field& below : field.fields) for_each_leaf(below, visit);
}

/// Puts together the value of `field` from the slots that its leaves are at.
Json assemble(Field& field);

/// Leaves out what is not read.
void add_member(Json& object, Field& field) {
  Json value = assemble(field);
  if (field.is_read()) object[field.name] = std::move(value);
}

/// What a field holds once it is present.
Json content(Field& field) {
  if (field.is_leaf()) {
    ++field.slot;
    return std::move(field.column.values.at(field.value++));
  }
  Json object = Json::object();
  for (Field& below : field.fields) add_member(object, below);
  if (!field.is_list || !field.is_read() || field.fields.size() != 1 ||
      field.fields[0].repetition != Repetition::kRepeated)
    return object;
  // A list is a group around a repeated one, around the element.
  Json list = std::move(object.front());
  if (field.fields[0].fields.size() != 1) return list;
  for (Json& element : list) element = Json(std::move(element.front()));
  return list;
}

Json assemble(Field& field) {
  Field& first = field.first_leaf();
  if (first.at_end()) throw Error("a column has fewer rows than the file");
  if (first.column.definition[first.slot] < static_cast<uint32_t>(field.levels.definition)) {
    for_each_leaf(field, [](Field& leaf) { ++leaf.slot; });
    return field.repetition == Repetition::kRepeated ? Json::array() : Json();
  }
  if (field.repetition != Repetition::kRepeated) return content(field);
  Json list = Json::array();
  do {
    list.push_back(content(field));
  } while (!first.at_end() &&
           first.column.repetition[first.slot] == static_cast<uint32_t>(field.levels.repetition));
  return list;
}

void read_row_group(std::span<const std::byte> file, const ThriftValue& group, Field& root,
                    std::vector<Json>& rows) {
  const ThriftValue::List& columns = group[1].list();
  size_t next = 0;
  for_each_leaf(root, [&](Field& leaf) {
    if (next >= columns.size()) throw Error("a row group lacks columns");
    try {
      leaf.column = read_column(file, columns[next++][3], leaf.levels, leaf.kind);
    } catch (const Error& e) {
      throw Error("column {}: {}", leaf.name, e.what());
    }
    leaf.slot = leaf.value = 0;
  });
  for (int64_t count = group[3].integer(0, INT32_MAX); count > 0; --count) {
    Json row = Json::object();
    for (Field& field : root.fields) add_member(row, field);
    rows.push_back(std::move(row));
  }
}

std::vector<Json> read_rows(std::span<const std::byte> file) {
  constexpr size_t kTail = sizeof(uint32_t) + kMagic.size();
  const auto text = [&](size_t from) {
    return std::string_view(reinterpret_cast<const char*>(file.data()) + from, kMagic.size());
  };
  if (file.size() < kMagic.size() + kTail || text(0) != kMagic ||
      text(file.size() - kMagic.size()) != kMagic) {
    throw Error("not a Parquet file, or cut short");
  }
  uint32_t size = 0;
  std::memcpy(&size, file.data() + file.size() - kTail, sizeof size);
  if (size > file.size() - kMagic.size() - kTail) throw Error("its metadata is cut short");
  const ThriftValue metadata = read_thrift(file.subspan(file.size() - kTail - size, size)).value;
  size_t at = 0;
  Field root = read_field(metadata[2].list(), at, {}, 0);
  if (root.is_leaf()) throw Error("a file without columns");
  std::vector<Json> rows;
  for (const ThriftValue& group : metadata[4].list()) {
    if (group[3].integer(0, INT32_MAX) > kMaxRows - std::ssize(rows))
      throw Error("more than {} rows", kMaxRows);
    read_row_group(file, group, root, rows);
  }
  return rows;
}

}  // namespace
}  // namespace parquet

std::vector<nlohmann::ordered_json> read_parquet(const std::filesystem::path& path) {
  const MappedFile file(path);
  try {
    return parquet::read_rows(file.bytes());
  } catch (const std::exception& e) {
    throw Error("{}: {}", path.string(), e.what());
  }
}

bool is_parquet(const std::filesystem::path& path) {
  std::string magic(parquet::kMagic.size(), 0);
  return std::ifstream(path, std::ios::binary).read(magic.data(), std::ssize(magic)) &&
         magic == parquet::kMagic;
}

}  // namespace tessera
