// Keys, values and attention of one head, as scalar loops.
#pragma once

#include <span>
#include <vector>

#include "tessera/kernels/host_kv_pool.h"

namespace tessera {

/// One head of one position in a page, as host_kv_pool.h lays it out.
class ReferenceSlot {
 public:
  ReferenceSlot(const HostKvPool& pool, std::span<const int32_t> pages, int64_t layer, int64_t kv_head,
                int64_t position);

  void store(std::span<const float> key, std::span<const float> value) const;
  std::vector<float> key() const;
  std::vector<float> value() const;

 private:
  float* key_scales() const { return reinterpret_cast<float*>(block_ + layout_.key_scales); }
  KvScale* value_scales() const { return reinterpret_cast<KvScale*>(block_ + layout_.value_scales); }
  uint8_t* value_row() const { return block_ + layout_.values + slot_ * kv_row_bytes(format_, d_); }
  KvScale encode(std::span<const float> x, std::span<uint8_t> row) const;
  std::vector<float> decode(std::span<const uint8_t> row, KvScale scale) const;

  KvFormat format_;
  int64_t d_;
  const HeadPageLayout& layout_;
  uint8_t* block_;
  int64_t slot_;
};

/// One query head [head_dim] of the token at end - 1 over the positions [begin, end) of `kv_head`, with ALiBi
/// of `alibi_slope`.
void reference_attention(std::span<const float> q, const HostKvPool& pool, std::span<const int32_t> pages,
                         int64_t layer, int64_t kv_head, int64_t begin, int64_t end, float alibi_slope,
                         std::span<float> out);

}  // namespace tessera
