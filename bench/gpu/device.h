// Device memory and timing for the GPU checks and benchmarks.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "tessera/kernels/cuda/check.h"

namespace tessera::bench {

/// An array in device memory.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t size) : size_(size) {
    cuda::check(cudaMalloc(&data_, std::max<size_t>(size * sizeof(T), 16)), "cudaMalloc");
  }
  explicit DeviceArray(std::span<const T> values) : DeviceArray(values.size()) {
    cuda::check(cudaMemcpy(data_, values.data(), values.size_bytes(), cudaMemcpyHostToDevice), "upload");
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(std::span<const T>(values)) {}
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(DeviceArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(other.size_) {}
  DeviceArray& operator=(DeviceArray&&) = delete;

  T* data() const { return static_cast<T*>(data_); }
  size_t size() const { return size_; }
  void fill(int byte) { cuda::check(cudaMemset(data_, byte, size_ * sizeof(T)), "cudaMemset"); }
  std::vector<T> download(size_t count) const {
    std::vector<T> values(count);
    cuda::check(cudaMemcpy(values.data(), data_, count * sizeof(T), cudaMemcpyDeviceToHost), "download");
    return values;
  }

 private:
  void* data_ = nullptr;
  size_t size_;
};

/// Microseconds of one call of `enqueue(i, stream)`: `calls` of them (i = 0, 1, ...) are captured into a
/// graph, the graph is replayed, and the median replay is divided by `calls`.
inline double graph_microseconds(int calls, int replays,
                                 const std::function<void(int, cudaStream_t)>& enqueue) {
  cudaStream_t stream;
  cuda::check(cudaStreamCreate(&stream), "cudaStreamCreate");
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  cuda::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  for (int i = 0; i < calls; ++i) enqueue(i, stream);
  cuda::check(cudaStreamEndCapture(stream, &graph), "end of capture");
  cuda::check(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  cudaEvent_t begin, end;
  cuda::check(cudaEventCreate(&begin), "cudaEventCreate");
  cuda::check(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<float> times(static_cast<size_t>(replays));
  cuda::check(cudaGraphLaunch(executable, stream), "warm-up");
  for (float& ms : times) {
    cuda::check(cudaEventRecord(begin, stream), "cudaEventRecord");
    cuda::check(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
    cuda::check(cudaEventRecord(end, stream), "cudaEventRecord");
    cuda::check(cudaEventSynchronize(end), "replay");
    cuda::check(cudaEventElapsedTime(&ms, begin, end), "cudaEventElapsedTime");
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  std::nth_element(times.begin(), times.begin() + replays / 2, times.end());
  return 1e3 * times[static_cast<size_t>(replays / 2)] / calls;
}

/// The exit status of a program that only runs `check`: its own, or 2 with the message of what it throws.
inline int status_of(const std::function<int()>& check) {
  try {
    return check();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
}

}  // namespace tessera::bench
