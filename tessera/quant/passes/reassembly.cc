// Splitting, matching and the search for the threshold.
#include "tessera/quant/passes/reassembly.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>

#include "tessera/base/error.h"

namespace tessera {
namespace {

constexpr int64_t kBandRows = 256;  ///< of the distance table computed at once, in double precision

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/// Squared distances of columns [first, first + rows) of m [S, K] from all columns, double.
at::Tensor column_distances(const at::Tensor& m, const at::Tensor& norms, int64_t first, int64_t rows) {
  const at::Tensor products = at::matmul(m.narrow(1, first, rows).t(), m);
  return (norms.narrow(0, first, rows).unsqueeze(1) + norms - products * 2).clamp_min_(0);
}

/// Columns of a split channel: parts spread evenly over as few columns as max_repeat allows.
void add_parts(std::vector<ChannelMap::Column>& columns, int64_t channel, int64_t parts, int64_t max_repeat) {
  const int64_t count = ceil_div(parts, max_repeat);
  const float gain = 1 / static_cast<float>(parts);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t repeat = parts / count + (i < parts % count ? 1 : 0);
    columns.push_back({{{static_cast<int32_t>(channel), gain}}, static_cast<uint8_t>(repeat)});
  }
}

/// Channels that may merge into others: every second of those with one part, by rank.
int64_t most_merges(std::span<const int64_t> parts) {
  const int64_t whole = std::ranges::count(parts, 1);
  return whole > 1 ? ceil_div(whole, 2) : 0;
}

/// Every theta of the grid that changes the split and adds few enough columns.
std::vector<double> candidate_thetas(const at::Tensor& absmax, const ReassemblyLayout& layout,
                                     const ThetaSearch& search) {
  constexpr double kStep = 0.5;
  constexpr int64_t kSteps = 100;
  const double most = absmax.max().item<double>(), least = absmax.min().item<double>();
  const int64_t steps = std::max(kSteps, static_cast<int64_t>(most / kStep));
  const auto cap = static_cast<int64_t>(search.max_expansion * static_cast<double>(absmax.size(0)));
  std::vector<double> candidates;
  int64_t last_parts = absmax.size(0);
  for (int64_t p = 1; p < steps && most > least; ++p) {
    const double theta = most - static_cast<double>(p) * (most - least) / static_cast<double>(steps);
    const std::vector<int64_t> parts = split_counts(absmax, theta);
    const int64_t total = std::accumulate(parts.begin(), parts.end(), int64_t{0});
    const int64_t added = added_columns(parts, layout);
    if (added > cap || (layout.assemble && added > most_merges(parts))) break;
    if (total == last_parts) continue;
    last_parts = total;
    candidates.push_back(theta);
  }
  return candidates;
}

}  // namespace

std::vector<int64_t> split_counts(const at::Tensor& channel_absmax, double theta) {
  const at::Tensor host = channel_absmax.to(at::kCPU, at::kFloat).contiguous();
  std::vector<int64_t> parts(static_cast<size_t>(host.numel()));
  for (size_t k = 0; k < parts.size(); ++k) {
    parts[k] = std::max<int64_t>(1, static_cast<int64_t>(std::ceil(host.data_ptr<float>()[k] / theta)));
  }
  return parts;
}

at::Tensor merge_distances(const at::Tensor& x, const at::Tensor& weight, MergeMetric metric) {
  const int64_t k = x.size(1);
  const at::Tensor inputs = x.to(at::kDouble), rows = weight.to(at::kDouble);
  const at::Tensor input_norms = inputs.square().sum({0}), row_norms = rows.square().sum({0}),
                   sums = rows.sum({0});
  at::Tensor distances = at::empty({k, k}, x.options().dtype(at::kFloat));
  for (int64_t first = 0; first < k; first += kBandRows) {
    const int64_t count = std::min(kBandRows, k - first);
    at::Tensor band = column_distances(inputs, input_norms, first, count);
    if (metric == MergeMetric::kError) {
      band.mul_(column_distances(rows, row_norms, first, count)).mul_(0.25);
    } else {
      band.mul_((sums.narrow(0, first, count).unsqueeze(1) + sums).square());
    }
    distances.narrow(0, first, count).copy_(band);
  }
  return distances;
}

size_t merge_bytes(int64_t samples, int64_t outputs, int64_t channels) {
  const int64_t doubles = (samples + outputs + 4 * std::min(kBandRows, channels)) * channels;
  return static_cast<size_t>(doubles) * sizeof(double) +
         static_cast<size_t>(channels * channels) * sizeof(float);
}

std::vector<Merge> match_channels(const at::Tensor& distances, std::span<const int64_t> parts,
                                  int64_t count) {
  std::vector<int64_t> sources, targets;
  int64_t rank = 0;
  for (size_t k = 0; k < parts.size(); ++k) {
    if (parts[k] == 1) (rank++ % 2 == 0 ? sources : targets).push_back(static_cast<int64_t>(k));
  }
  if (count > most_merges(parts)) {
    throw Error("{} channels cannot be merged: only {} of {} may; lower max_expansion", count,
                most_merges(parts), parts.size());
  }
  if (count == 0) return {};
  const auto device = distances.device();
  const at::Tensor a = at::tensor(sources).to(device), b = at::tensor(targets).to(device);
  const auto [least, nearest] = distances.index_select(0, a).index_select(1, b).min(1);
  const at::Tensor order = at::argsort(least, /*stable=*/true, 0, /*descending=*/false).cpu();
  const at::Tensor host_nearest = nearest.cpu();
  std::vector<Merge> merges;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = order.data_ptr<int64_t>()[i];
    merges.push_back({sources[static_cast<size_t>(row)],
                      targets[static_cast<size_t>(host_nearest.data_ptr<int64_t>()[row])]});
  }
  return merges;
}

int64_t added_columns(std::span<const int64_t> parts, const ReassemblyLayout& layout) {
  int64_t added = 0;
  for (int64_t t : parts) added += ceil_div(t, layout.max_repeat) - 1;
  return added;
}

ChannelMap reassemble(const at::Tensor& distances, std::span<const int64_t> parts,
                      const ReassemblyLayout& layout) {
  if (std::ranges::all_of(parts, [](int64_t t) { return t == 1; })) return {};
  const int64_t added = added_columns(parts, layout);
  std::vector<std::vector<int64_t>> group(parts.size());  // of each target: its sources
  std::vector<char> merged(parts.size(), 0);
  if (layout.assemble) {
    for (const Merge& merge : match_channels(distances, parts, added)) {
      group[static_cast<size_t>(merge.target)].push_back(merge.source);
      merged[static_cast<size_t>(merge.source)] = 1;
    }
  }
  std::vector<ChannelMap::Column> columns;
  for (size_t k = 0; k < parts.size(); ++k) {
    if (merged[k]) continue;
    const auto channel = static_cast<int64_t>(k);
    if (parts[k] > 1) {
      add_parts(columns, channel, parts[k], layout.max_repeat);
      continue;
    }
    group[k].push_back(channel);
    std::ranges::sort(group[k]);
    const float gain = 1 / static_cast<float>(group[k].size());
    ChannelMap::Column& column = columns.emplace_back();
    for (int64_t source : group[k]) column.sources.push_back({static_cast<int32_t>(source), gain});
  }
  if (!layout.assemble && added > 0) {
    while (static_cast<int64_t>(columns.size()) % layout.alignment != 0) columns.push_back({{{0, 0.0f}}, 1});
  }
  return ChannelMap(columns);
}

Reassembly search_reassembly(const at::Tensor& channel_absmax, const at::Tensor& distances,
                             const ReassemblyLayout& layout, const ThetaSearch& search,
                             const std::function<double(const ChannelMap&)>& loss) {
  Reassembly best;
  best.theta = channel_absmax.max().item<double>();
  best.identity_loss = best.loss = loss({});
  best.evaluations = 1;
  std::vector<double> candidates = candidate_thetas(channel_absmax, layout, search);
  if (search.theta > 0) {  // the smallest possible threshold that is not below
    const double wanted = search.theta * channel_absmax.median().item<double>();
    std::erase_if(candidates, [&](double theta) { return theta < wanted; });
    if (candidates.size() > 1) candidates.erase(candidates.begin(), candidates.end() - 1);
  }
  const auto count = static_cast<int64_t>(candidates.size()), tried = std::min(count, search.candidates);
  for (int64_t i = 0; i < tried; ++i) {
    const double theta = candidates[static_cast<size_t>((i + 1) * count / tried - 1)];
    const std::vector<int64_t> parts = split_counts(channel_absmax, theta);
    ChannelMap map = reassemble(distances, parts, layout);
    const double value = loss(map);
    ++best.evaluations;
    if (!(value < best.loss) && search.theta == 0) continue;
    best.theta = theta;
    best.map = std::move(map);
    best.loss = value;
    best.added_columns = added_columns(parts, layout);
    best.split_channels = static_cast<int64_t>(std::ranges::count_if(parts, [](int64_t t) { return t > 1; }));
  }
  return best;
}

}  // namespace tessera
