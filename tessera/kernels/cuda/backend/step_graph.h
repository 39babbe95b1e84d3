// A step's launches, recorded once and replayed.
#pragma once

#include <cuda_runtime.h>

#include <functional>

namespace tessera::cuda {

class StepGraph {
 public:
  /// Records what `operations` enqueue on `stream`; nothing runs. They may allocate no memory.
  StepGraph(cudaStream_t stream, const std::function<void()>& operations);
  ~StepGraph();
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;

  void launch(cudaStream_t stream) const;

 private:
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace tessera::cuda
