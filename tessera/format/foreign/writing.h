// What the writers share.
#pragma once

#include <exception>
#include <string>
#include <vector>

#include "tessera/format/foreign/affine_weights.h"
#include "tessera/format/foreign/narrowing.h"
#include "tessera/format/foreign/packed_fields.h"
#include "tessera/format/foreign/writers.h"

namespace tessera::foreign {

/// The weights in the groups that the options want: scales and zero points of a larger group are repeated.
AffineWeights weights_to_write(const QuantizedLinear& linear, const std::string& where,
                               const WriteOptions& options);

/// Throws Error unless inputs have their groups in order; `tool` is named.
void expect_ordered_inputs(const AffineWeights& w, const char* tool);
/// Throws Error unless `extent`, which `what` names, is a multiple.
void expect_multiple(const AffineWeights& w, const char* what, int64_t extent, int64_t multiple);
/// Throws Error unless the codes have 4 bits; `tool` is named.
void expect_4_bits(const AffineWeights& w, const char* tool);

/// Zero point of output n, group g.
inline uint8_t zero_at(const AffineWeights& w, int64_t n, int64_t g) {
  return w.zeros.empty() ? w.middle() : w.zeros[static_cast<size_t>(n * w.groups + g)];
}
inline uint8_t code_at(const AffineWeights& w, int64_t n, int64_t k) {
  return w.codes[static_cast<size_t>(n * w.k + k)];
}
/// Exact: a scale of at most 35 bits times 8.
inline double weight_at(const AffineWeights& w, int64_t n, int64_t k) {
  const int64_t g = w.input_group.empty() ? k / w.group_size() : w.input_group[static_cast<size_t>(k)];
  return w.scales[static_cast<size_t>(n * w.groups + g)] * (code_at(w, n, k) - zero_at(w, n, g));
}
bool is_symmetric(const AffineWeights& w);

/// Calls body(n, narrowing) for every output, on all threads, each with a Narrowing of its own whose changes
/// are added to `all`. The Error of the first output that throws one is thrown again.
template <class Body>
void for_each_output(const AffineWeights& w, Narrowing& all, const Body& body) {
  std::vector<Narrowing> outputs(static_cast<size_t>(w.n), all.afresh());
  std::vector<std::exception_ptr> errors(outputs.size());
  parallel_for(w.n, [&](int64_t n) {
    const auto output = static_cast<size_t>(n);
    try {
      body(n, outputs[output]);
    } catch (const Error&) {
      errors[output] = std::current_exception();
    }
  });
  for (size_t n = 0; n < outputs.size(); ++n) {
    if (errors[n]) std::rethrow_exception(errors[n]);
    all.add(outputs[n].rounding());
  }
}

/// F16 [groups, N].
Tensor transposed_scales(const AffineWeights& w, Narrowing& narrowing);

/// "4 bits g128, zero points"
std::string describe(const AffineWeights& w);

/// A member of the schemes of 4-bit tools: "group_size", and "inputs" to tell one group an output.
nlohmann::json group_scheme(const AffineWeights& w);
/// The one group size of all linears, as tools write it: -1 for one scale an output. Throws Error when they
/// have several.
int64_t common_group_size(const std::vector<LinearScheme>& linears);
/// Names of the linears that stay in floats.
std::vector<std::string> float_linears(const std::vector<LinearScheme>& linears);

}  // namespace tessera::foreign
