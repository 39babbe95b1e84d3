// Selecting outlier columns and giving them to a layer.
#include "tessera/quant/grid/outliers.h"

#include <algorithm>
#include <numeric>

namespace tessera {
at::Tensor OutlierSplit::outliers() const {
  return std::get<0>(at::sort(order.narrow(0, order.size(0) - count, count)));
}

at::Tensor OutlierSplit::base_columns(const at::Tensor& tensor) const {
  if (count == 0) return tensor;
  const at::Tensor base = std::get<0>(at::sort(order.narrow(0, 0, order.size(0) - count)));
  return tensor.index_select(-1, base);
}

OutlierSplit split_outliers(const at::Tensor& channel_absmax, int64_t count) {
  return {at::argsort(channel_absmax, /*stable=*/true, 0, /*descending=*/false), count};
}

int64_t outlier_count(const OutlierRule& rule, int64_t width, int64_t hidden, int64_t group_size) {
  constexpr int64_t kStep = 16;
  const auto most = static_cast<int64_t>(rule.max_share * static_cast<double>(hidden));
  const int64_t at_hidden = std::min(rule.count, most);
  if (at_hidden == 0) return 0;
  const int64_t alignment = std::lcm(width < kNarrowSite ? std::min(rule.alignment, kStep) : rule.alignment,
                                     std::max<int64_t>(group_size, 1));
  const int64_t steps = (at_hidden * width + hidden * kStep - 1) / (hidden * kStep);
  const int64_t wanted = std::min(width, steps * kStep);
  return width - (width - wanted) / alignment * alignment;
}

void attach_outliers(QuantizedLinear& linear, const at::Tensor& index, const at::Tensor& weight) {
  const int64_t count = index.size(0);
  if (count == 0) return;
  const at::Tensor columns = index.to(at::kCPU, at::kInt).contiguous(),
                   halves = weight.to(at::kCPU, at::kHalf).contiguous();
  linear.outlier_index = Tensor::from(
      std::span<const int32_t>(columns.data_ptr<int32_t>(), static_cast<size_t>(count)), {count});
  linear.outlier_weight = Tensor::from(std::span(reinterpret_cast<const Half*>(halves.data_ptr<at::Half>()),
                                                 static_cast<size_t>(halves.numel())),
                                       {linear.n, count});
}

}  // namespace tessera
