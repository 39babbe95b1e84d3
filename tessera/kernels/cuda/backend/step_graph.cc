// Recording.
#include "tessera/kernels/cuda/backend/step_graph.h"

#include "tessera/kernels/cuda/check.h"

namespace tessera::cuda {

StepGraph::StepGraph(cudaStream_t stream, const std::function<void()>& operations) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  try {
    operations();
  } catch (...) {
    cudaStreamEndCapture(stream, &graph);
    if (graph) cudaGraphDestroy(graph);
    throw;
  }
  check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "cudaGraphInstantiate");
}

StepGraph::~StepGraph() {
  cudaGraphExecDestroy(executable_);
}

void StepGraph::launch(cudaStream_t stream) const {
  check(cudaGraphLaunch(executable_, stream), "cudaGraphLaunch");
}

}  // namespace tessera::cuda
