// Where the parameters of a linear lie in a float checkpoint: in tensors of their own, or in rows of one that
// several linears share.
#pragma once

#include "tessera/arch/model_spec.h"

namespace tessera {

/// Makes q, k and v rows of the linear `name`, which holds for every key-value head its query heads, its key
/// and its value (BLOOM, Falcon). With one key-value head that is all of q, then k, then v.
void fuse_query_key_value(ModelSpec& spec, const std::string& name);

/// Weight [n, k] of a float linear: a view into the checkpoint where its rows lie together, else a gathered
/// copy that the view owns. Throws Error when the tensor is absent or has another shape.
TensorView linear_weight(const Checkpoint& checkpoint, const ModelSpec& spec, int64_t layer, LinearId id);
/// Its bias [n], which the spec must announce.
TensorView linear_bias(const Checkpoint& checkpoint, const ModelSpec& spec, int64_t layer, LinearId id);

}  // namespace tessera
