// Channel reassembly: loud channels are disassembled into copies of a fraction each, similar quiet ones
// assembled into one, so that the width stays and the range shrinks ("QLLM").
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "tessera/quant/block/channel_map.h"

namespace tessera {

/// T_k = max(1, ceil(absmax[k] / theta)): how many parts each channel becomes. absmax [K].
std::vector<int64_t> split_counts(const at::Tensor& channel_absmax, double theta);

enum class MergeMetric : uint8_t {
  kError,  ///< the error of the output: 1/4 |x_i - x_j|^2 |w_i - w_j|^2, which is exact
  kLegacy  ///< the authors' program: |x_i - x_j|^2 (sum w_i + sum w_j)^2
};

/// [K, K] float32: what merging two channels costs, for inputs x [S, K] and the stacked weights [N, K] of all
/// linears that read them.
at::Tensor merge_distances(const at::Tensor& x, const at::Tensor& weight, MergeMetric metric);
/// Bytes that merge_distances holds at its peak, its result included.
size_t merge_bytes(int64_t samples, int64_t outputs, int64_t channels);

/// `source` disappears into `target`.
struct Merge {
  int64_t source, target;
};

/// Bipartite soft matching: of the channels with one part, every second (by rank) may merge into its nearest
/// of the others; the `count` nearest pairs do. Ties go to the smaller index. Throws Error when there are not
/// so many candidates.
std::vector<Merge> match_channels(const at::Tensor& distances, std::span<const int64_t> parts, int64_t count);

/// How the parts of a channel become columns.
struct ReassemblyLayout {
  bool assemble = true;    ///< merge as many channels as were added
  int64_t max_repeat = 1;  ///< parts that one column stands for on int8 operands (virtual disassembly)
  int64_t alignment = 32;  ///< without assembly columns of zeros fill the width up to a multiple
};

/// Columns that `parts` add to the channels.
int64_t added_columns(std::span<const int64_t> parts, const ReassemblyLayout& layout);

/// The map: copies adjacent, means of merged channels at the place of their target, order kept otherwise.
/// Identity when nothing is split. `distances` may be undefined without assembly.
ChannelMap reassemble(const at::Tensor& distances, std::span<const int64_t> parts,
                      const ReassemblyLayout& layout);

struct ThetaSearch {
  double theta = 0;            ///< fixed, in units of the median channel maximum; 0: search
  double max_expansion = 0.2;  ///< added columns, relative to the channels
  int64_t candidates = 24;     ///< most values that are scored beside the identity, spread over the range
};

struct Reassembly {
  double theta = 0;  ///< the largest channel maximum: identity
  ChannelMap map;
  int64_t split_channels = 0, added_columns = 0;
  double loss = 0, identity_loss = 0;
  int64_t evaluations = 0;
};

/// Chooses theta for a site with channel maxima [K]: thetas fall linearly from the largest maximum in
/// max(100, absmax / 0.5) steps until too many columns are added; those that change the split are candidates.
/// `loss` is the quantized output's error under a map. The identity is scored first and wins ties.
Reassembly search_reassembly(const at::Tensor& channel_absmax, const at::Tensor& distances,
                             const ReassemblyLayout& layout, const ThetaSearch& search,
                             const std::function<double(const ChannelMap&)>& loss);

}  // namespace tessera
