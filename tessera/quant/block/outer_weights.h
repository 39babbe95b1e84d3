// The parameters outside the blocks, as libtorch tensors.
#pragma once

#include <ATen/ATen.h>

namespace tessera {

/// The parameters outside the blocks, float32; a pass that changes the residual stream's basis changes them,
/// too.
struct OuterWeights {
  at::Tensor embedding;           ///< [vocab, hidden]
  at::Tensor position_embedding;  ///< [positions, hidden]; undefined unless the family learns positions
  at::Tensor embedding_gain, embedding_bias;  ///< [hidden]; undefined without a norm behind the embedding
  at::Tensor final_gain;                      ///< [hidden]
  at::Tensor final_bias;                      ///< [hidden]; undefined for RMSNorm
  at::Tensor lm_head;       ///< [vocab, hidden]; a copy of the embedding when the checkpoint ties them
  at::Tensor lm_head_bias;  ///< [vocab]; undefined where there is none
};

}  // namespace tessera
