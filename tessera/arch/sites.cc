// The sites that follow from a block's linears, norms and order.
#include "tessera/arch/families.h"

namespace tessera {

std::vector<Site> sites_of(const ModelSpec& s) {
  using enum Site::Producer;
  const LinearId v = s.id(kV), up = s.id(kUp);
  Site qkv{.name = "qkv", .readers = {s.id(kQ), s.id(kK), v}, .producer = kNorm, .norm = kAttentionNorm},
      mlp{.name = "up", .readers = {up}, .producer = kNorm, .norm = kMlpNorm};
  const Site o{.name = "o", .readers = {s.id(kO)}, .producer = kLinear, .linear = v},
      down{.name = "down", .readers = {s.id(kDown)}, .producer = kLinear, .linear = up};
  if (s.gated()) {
    mlp.name = "gate_up";
    mlp.readers.insert(mlp.readers.begin(), s.id(kGate));
  }
  if (!s.parallel) return {qkv, o, mlp, down};
  if (s.has(kMlpNorm)) return {qkv, mlp, o, down};
  qkv.name = "qkv_up";
  qkv.readers.insert(qkv.readers.end(), mlp.readers.begin(), mlp.readers.end());
  return {qkv, o, down};
}

}  // namespace tessera
