// The function that libFuzzer and replay.cc call, around a target's own.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "hostile_input.h"
#include "tessera/base/error.h"

namespace tessera {

std::filesystem::path file_of(std::string_view content) {
  static const int file = memfd_create("input", MFD_CLOEXEC);
  if (ftruncate(file, 0) != 0 || pwrite(file, content.data(), content.size(), 0) != std::ssize(content)) {
    throw std::runtime_error("no memory for the input");
  }
  return fmt::format("/proc/self/fd/{}", file);
}

}  // namespace tessera

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    tessera::read_hostile_input({reinterpret_cast<const char*>(data), size});
  } catch (const tessera::Error&) {
  }
  return 0;
}
