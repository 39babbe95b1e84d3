// The heads that kernels are compiled for.
#pragma once

#include "tessera/kernels/cuda/attention/attention.h"

namespace tessera::cuda {

/// Calls function.template operator()<format, head_dim>().
template <KvFormat kFormat, class Function>
void with_head_dim(int head_dim, const Function& function) {
  switch (head_dim) {
    case 32:
      return function.template operator()<kFormat, 32>();
    case 64:
      return function.template operator()<kFormat, 64>();
    case 80:
      return function.template operator()<kFormat, 80>();
    case 96:
      return function.template operator()<kFormat, 96>();
    case 128:
      return function.template operator()<kFormat, 128>();
    default:
      return function.template operator()<kFormat, 256>();
  }
}
template <class Function>
void with_shape(const KvPages& pages, const Function& function) {
  switch (pages.format) {
    case KvFormat::kInt8:
      return with_head_dim<KvFormat::kInt8>(pages.head_dim, function);
    case KvFormat::kInt4:
      return with_head_dim<KvFormat::kInt4>(pages.head_dim, function);
    default:
      return with_head_dim<KvFormat::kF16>(pages.head_dim, function);
  }
}

}  // namespace tessera::cuda
