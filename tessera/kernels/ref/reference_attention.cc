// Keys, values and attention of one head, as scalar loops.
#include "tessera/kernels/ref/reference_attention.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "tessera/base/dtype.h"

namespace tessera {

ReferenceSlot::ReferenceSlot(const HostKvPool& pool, std::span<const int32_t> pages, int64_t layer,
                             int64_t kv_head, int64_t position)
    : format_(pool.shape().format),
      d_(pool.shape().head_dim),
      layout_(pool.layout()),
      block_(pool.head(pages[static_cast<size_t>(position / kPageTokens)], layer, kv_head)),
      slot_(position % kPageTokens) {}

void ReferenceSlot::store(std::span<const float> key, std::span<const float> value) const {
  std::vector<uint8_t> row(static_cast<size_t>(kv_row_bytes(format_, d_)));
  const KvScale key_scale = encode(key, row);
  const size_t element = is_quantized(format_) ? 1 : row.size() / key.size();
  for (size_t i = 0; i < row.size(); i += element) {
    std::copy_n(&row[i], element,
                block_ + (i / element * kPageTokens + static_cast<size_t>(slot_)) * element);
  }
  const KvScale value_scale = encode(value, row);
  std::copy(row.begin(), row.end(), value_row());
  if (!is_quantized(format_)) return;
  key_scales()[slot_] = key_scale.scale;
  key_scales()[kPageTokens + slot_] = key_scale.zero;
  value_scales()[slot_] = value_scale;
}

std::vector<float> ReferenceSlot::key() const {
  std::vector<uint8_t> row(static_cast<size_t>(kv_row_bytes(format_, d_)));
  const size_t element = is_quantized(format_) ? 1 : row.size() / static_cast<size_t>(d_);
  for (size_t i = 0; i < row.size(); i += element) {
    std::copy_n(block_ + (i / element * kPageTokens + static_cast<size_t>(slot_)) * element, element,
                &row[i]);
  }
  KvScale scale;
  if (is_quantized(format_)) scale = {key_scales()[slot_], key_scales()[kPageTokens + slot_]};
  return decode(row, scale);
}

std::vector<float> ReferenceSlot::value() const {
  const auto bytes = static_cast<size_t>(kv_row_bytes(format_, d_));
  return decode({value_row(), bytes}, is_quantized(format_) ? value_scales()[slot_] : KvScale{});
}

KvScale ReferenceSlot::encode(std::span<const float> x, std::span<uint8_t> row) const {
  if (is_quantized(format_)) return quantize_kv(x, format_, row);
  for (size_t i = 0; i < x.size(); ++i) {
    if (format_ == KvFormat::kF16) {
      reinterpret_cast<Half*>(row.data())[i] = to_half(x[i]);
    } else {
      reinterpret_cast<float*>(row.data())[i] = x[i];
    }
  }
  return {};
}

std::vector<float> ReferenceSlot::decode(std::span<const uint8_t> row, KvScale scale) const {
  std::vector<float> x(static_cast<size_t>(d_));
  if (is_quantized(format_)) {
    dequantize_kv(row, format_, scale, x);
    return x;
  }
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = format_ == KvFormat::kF16 ? to_float(reinterpret_cast<const Half*>(row.data())[i])
                                     : reinterpret_cast<const float*>(row.data())[i];
  }
  return x;
}

void reference_attention(std::span<const float> q, const HostKvPool& pool, std::span<const int32_t> pages,
                         int64_t layer, int64_t kv_head, int64_t begin, int64_t end, float alibi_slope,
                         std::span<float> out) {
  std::vector<double> weights, sums(q.size());
  for (int64_t p = begin; p < end; ++p) {
    const std::vector<float> key = ReferenceSlot(pool, pages, layer, kv_head, p).key();
    const double score = std::inner_product(q.begin(), q.end(), key.begin(), 0.0, std::plus<>(),
                                            [](double a, double b) { return a * b; });
    weights.push_back(score / std::sqrt(static_cast<double>(q.size())) +
                      double{alibi_slope} * static_cast<double>(p - (end - 1)));
  }
  const double highest = *std::max_element(weights.begin(), weights.end());
  double total = 0;
  for (double& w : weights) total += w = std::exp(w - highest);
  for (int64_t p = begin; p < end; ++p) {
    const std::vector<float> value = ReferenceSlot(pool, pages, layer, kv_head, p).value();
    const double weight = weights[static_cast<size_t>(p - begin)] / total;
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += weight * value[i];
  }
  std::transform(sums.begin(), sums.end(), out.begin(), [](double sum) { return static_cast<float>(sum); });
}

}  // namespace tessera
