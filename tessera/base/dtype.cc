// Names and sizes of the element types.
#include "tessera/base/dtype.h"

#include <array>

#include "tessera/base/error.h"

namespace tessera {
namespace {

struct Entry {
  DType dtype;
  std::string_view name;
  size_t size;
};

constexpr std::array<Entry, 12> kTable{{{DType::kF32, "F32", 4},
                                        {DType::kF16, "F16", 2},
                                        {DType::kBF16, "BF16", 2},
                                        {DType::kI64, "I64", 8},
                                        {DType::kI32, "I32", 4},
                                        {DType::kI16, "I16", 2},
                                        {DType::kI8, "I8", 1},
                                        {DType::kU8, "U8", 1},
                                        {DType::kBool, "BOOL", 1},
                                        {DType::kF64, "F64", 8},
                                        {DType::kF8E4M3, "F8_E4M3", 1},
                                        {DType::kF8E5M2, "F8_E5M2", 1}}};

}  // namespace

size_t size_of(DType dtype) {
  return kTable[static_cast<size_t>(dtype)].size;
}

std::string_view name_of(DType dtype) {
  return kTable[static_cast<size_t>(dtype)].name;
}

DType dtype_from_name(std::string_view name) {
  for (const Entry& e : kTable) {
    if (e.name == name) return e.dtype;
  }
  throw Error("unknown tensor dtype '{}'", name);
}

}  // namespace tessera
