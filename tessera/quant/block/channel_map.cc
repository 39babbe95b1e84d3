// Applying and folding sparse channel maps.
#include "tessera/quant/block/channel_map.h"

#include <algorithm>

#include "tessera/format/input_map.h"

namespace tessera {
namespace {

template <class T>
Tensor to_tensor(const std::vector<T>& values) {
  return Tensor::from(std::span<const T>(values), {static_cast<int64_t>(values.size())});
}

std::vector<ChannelMap::Column> columns_of(const QuantizedLinear& linear) {
  if (linear.plain_input() && linear.input_repeat.empty()) return {};
  const InputMap map(linear);
  const auto repeat = linear.input_repeat.as<uint8_t>();
  std::vector<ChannelMap::Column> columns(static_cast<size_t>(linear.k));
  for (size_t c = 0; c < columns.size(); ++c) {
    for (auto i = static_cast<size_t>(map.offset[c]); i < static_cast<size_t>(map.offset[c + 1]); ++i) {
      columns[c].sources.push_back({map.index[i], map.gain[i]});
    }
    if (!repeat.empty()) columns[c].repeat = repeat[c];
  }
  return columns;
}

}  // namespace

ChannelMap::ChannelMap(const std::vector<Column>& columns) : columns_(static_cast<int64_t>(columns.size())) {
  if (identity()) return;
  offset_.push_back(0);
  size_t most = 1;
  for (const Column& column : columns) {
    for (const Source& source : column.sources) {
      index_.push_back(source.channel);
      gain_.push_back(source.gain);
    }
    offset_.push_back(static_cast<int32_t>(index_.size()));
    most = std::max(most, column.sources.size());
  }
  for (size_t r = 0; r < most; ++r) {
    std::vector<int64_t> column, channel;
    std::vector<float> gain;
    for (size_t c = 0; c < columns.size(); ++c) {
      if (columns[c].sources.size() <= r) continue;
      column.push_back(static_cast<int64_t>(c));
      channel.push_back(columns[c].sources[r].channel);
      gain.push_back(columns[c].sources[r].gain);
    }
    rounds_.push_back({at::tensor(column), at::tensor(channel), at::tensor(gain)});
  }
  if (std::ranges::all_of(columns, [](const Column& column) { return column.repeat == 1; })) return;
  std::vector<float> repeat;
  for (const Column& column : columns) repeat.push_back(column.repeat);
  repeat_ = at::tensor(repeat);
}

ChannelMap::ChannelMap(const QuantizedLinear& linear) : ChannelMap(columns_of(linear)) {}

at::Tensor ChannelMap::apply(const at::Tensor& x) const {
  if (identity()) return x;
  const auto gather = [&](const Round& round) {
    return x.index_select(-1, round.channel.to(x.device())) * round.gain.to(x.device());
  };
  at::Tensor mapped = gather(rounds_[0]);
  for (size_t r = 1; r < rounds_.size(); ++r) {
    mapped = mapped.index_add(-1, rounds_[r].column.to(x.device()), gather(rounds_[r]));
  }
  return mapped;
}

at::Tensor ChannelMap::repeated(const at::Tensor& mapped) const {
  return repeat_.defined() ? mapped * repeat_.to(mapped.device()) : mapped;
}

at::Tensor ChannelMap::fold(const at::Tensor& weight) const {
  if (identity()) return weight;
  at::Tensor folded = at::zeros({weight.size(0), columns_}, weight.options());
  for (const Round& round : rounds_) {
    const at::Tensor used = (round.gain != 0).to(weight.device(), at::kFloat);
    folded.index_add_(1, round.column.to(weight.device()),
                      weight.index_select(1, round.channel.to(weight.device())) * used);
  }
  return folded;
}

void ChannelMap::attach(QuantizedLinear& linear) const {
  if (identity()) return;
  linear.input_index = to_tensor(index_);
  linear.input_gain = to_tensor(gain_);
  linear.input_offset = to_tensor(offset_);
  if (!repeat_.defined()) return;
  const at::Tensor bytes = repeat_.to(at::kByte);
  linear.input_repeat = Tensor::from(
      std::span<const uint8_t>(bytes.data_ptr<uint8_t>(), static_cast<size_t>(columns_)), {columns_});
  linear.row_sum = {};  // the codes lose their zero point before they are repeated
}

}  // namespace tessera
