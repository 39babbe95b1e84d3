// cuBLAS by dlopen.
#include "tessera/kernels/cuda/backend/cublas.h"

#include <cublas_v2.h>
#include <dlfcn.h>

#include "tessera/base/error.h"

namespace tessera::cuda {
namespace {

constexpr size_t kWorkspace = size_t{32} << 20;  // what cuBLAS takes on 9.0

void check_cublas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error("cuBLAS: {} failed with code {}", what, static_cast<int>(status));
}

}  // namespace

struct Cublas::Library {
  void* file = nullptr;
  cublasHandle_t handle = nullptr;
  decltype(&cublasCreate_v2) create = nullptr;
  decltype(&cublasDestroy_v2) destroy = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  decltype(&cublasSetWorkspace_v2) set_workspace = nullptr;
  /// cublasGemmEx, which the header overloads.
  cublasStatus_t (*gemm_ex)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void*,
                            const void*, cudaDataType, int, const void*, cudaDataType, int, const void*,
                            void*, cudaDataType, int, cublasComputeType_t, cublasGemmAlgo_t) = nullptr;

  template <class Function>
  void find(Function& function, const char* name) const {
    function = reinterpret_cast<Function>(dlsym(file, name));
    if (!function) throw Error("{} lacks {}; is it damaged?", CUBLAS_LIBRARY, name);
  }
};

Cublas::Cublas(cudaStream_t stream) : library_(std::make_unique<Library>()), workspace_(kWorkspace) {
  Library& l = *library_;
  l.file = dlopen(CUBLAS_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (!l.file) {
    throw Error("float layers on the GPU need cuBLAS: {}; install it and add its folder to LD_LIBRARY_PATH",
                dlerror());
  }
  l.find(l.create, "cublasCreate_v2");
  l.find(l.destroy, "cublasDestroy_v2");
  l.find(l.set_stream, "cublasSetStream_v2");
  l.find(l.set_workspace, "cublasSetWorkspace_v2");
  l.find(l.gemm_ex, "cublasGemmEx");
  check_cublas(l.create(&l.handle), "cublasCreate");
  check_cublas(l.set_stream(l.handle, stream), "cublasSetStream");
  check_cublas(l.set_workspace(l.handle, workspace_.data(), workspace_.bytes()), "cublasSetWorkspace");
}

Cublas::~Cublas() {
  if (library_->handle) library_->destroy(library_->handle);
}

void Cublas::gemm(int64_t m, int64_t n, int64_t k, const void* weights, const void* x, int64_t x_stride,
                  void* out, int64_t out_stride, bool float_out, bool accumulate) const {
  // Row-major y = x W^T is column-major y^T = W x^T, with W^T as it lies in memory.
  const float alpha = 1, beta = accumulate ? 1 : 0;
  check_cublas(
      library_->gemm_ex(library_->handle, CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(n), static_cast<int>(m),
                        static_cast<int>(k), &alpha, weights, CUDA_R_16F, static_cast<int>(k), x, CUDA_R_16F,
                        static_cast<int>(x_stride), &beta, out, float_out ? CUDA_R_32F : CUDA_R_16F,
                        static_cast<int>(out_stride), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
      "cublasGemmEx");
}

}  // namespace tessera::cuda
