// The sites that follow from a block's linears, norms and order.
#include "tessera/arch/families.h"

namespace tessera {

std::vector<Site> sites_of(const ModelSpec& s) {
  using enum Site::Producer;
  const Site qkv{.name = "qkv", .readers = {kQ, kK, kV}, .producer = kNorm, .norm = kAttentionNorm},
      qkv_up{.name = "qkv_up", .readers = {kQ, kK, kV, kUp}, .producer = kNorm, .norm = kAttentionNorm},
      up{.name = "up", .readers = {kUp}, .producer = kNorm, .norm = kMlpNorm},
      gate_up{.name = "gate_up", .readers = {kGate, kUp}, .producer = kNorm, .norm = kMlpNorm},
      o{.name = "o", .readers = {kO}, .producer = kLinear, .linear = kV},
      down{.name = "down", .readers = {kDown}, .producer = kLinear, .linear = kUp};
  if (!s.parallel) return {qkv, o, s.gated() ? gate_up : up, down};
  if (s.has(kMlpNorm)) return {qkv, up, o, down};
  return {qkv_up, o, down};
}

}  // namespace tessera
