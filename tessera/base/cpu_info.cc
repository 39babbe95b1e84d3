// CPU detection.
#include "tessera/base/cpu_info.h"

#include <fstream>
#include <thread>

namespace tessera {
namespace {

/// The value after "key :" on the first line of /proc files that starts with key.
std::string proc_value(const char* path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const size_t colon = line.find(':');
    const size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? "" : line.substr(start);
  }
  return "";
}

/// A value that /proc gives in KiB.
size_t proc_bytes(const char* path, const std::string& key) {
  const std::string kib = proc_value(path, key);
  return kib.empty() ? 0 : std::stoull(kib) * 1024;
}

CpuInfo detect() {
  CpuInfo info;
  info.model = proc_value("/proc/cpuinfo", "model name");
  info.cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  __builtin_cpu_init();
  info.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  info.avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  info.avx512_vnni = info.avx512 && __builtin_cpu_supports("avx512vnni");
  return info;
}

}  // namespace

const CpuInfo& cpu_info() {
  static const CpuInfo info = detect();
  return info;
}

size_t available_memory() {
  return proc_bytes("/proc/meminfo", "MemAvailable");
}

size_t resident_memory() {
  return proc_bytes("/proc/self/status", "VmRSS");
}

size_t peak_memory() {
  return proc_bytes("/proc/self/status", "VmHWM");
}

void reset_peak_memory() {
  std::ofstream("/proc/self/clear_refs") << "5";
}

}  // namespace tessera
