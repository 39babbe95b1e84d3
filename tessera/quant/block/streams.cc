// Residual streams on the calibration windows: start, propagation, disk form.
#include "tessera/quant/block/streams.h"

#include <cassert>

#include "tessera/base/error.h"
#include "tessera/quant/block/tensor_bridge.h"
#include "tessera/quant/block/token_errors.h"

namespace tessera {
namespace {

/// Calls visit(first, count) for some whole windows at a time.
template <class Visit>
void for_each_chunk(const at::Tensor& x, const Visit& visit) {
  const int64_t step = windows_per_chunk(x.size(1), x.device());
  for (int64_t first = 0; first < x.size(0); first += step) visit(first, std::min(step, x.size(0) - first));
}

/// Copies row `i` of `table` [rows, width] (F32, F16 or BF16) to `out`.
void copy_row(const TensorView& table, int64_t i, float* out) {
  const int64_t width = table.shape[1], row_bytes = width * static_cast<int64_t>(size_of(table.dtype));
  copy_to_float({table.dtype, {width}, table.data + i * row_bytes}, {out, static_cast<size_t>(width)});
}

}  // namespace

double Streams::relative_error() const {
  std::vector<at::Tensor> errors;
  for_each_chunk(x_float, [&](int64_t first, int64_t count) {
    errors.push_back(token_errors(x_quant.narrow(0, first, count), x_float.narrow(0, first, count)));
  });
  return at::cat(errors).median().item<double>();
}

FileDigest Streams::save(const std::filesystem::path& file) const {
  const at::Tensor host_float = x_float.cpu(), host_quant = x_quant.cpu();
  return write_safetensors(file, {{"x_float", view_of(host_float)}, {"x_quant", view_of(host_quant)}});
}

double Streams::seconds_between_saves() const {
  if (!x_float.defined()) return 0;
  constexpr double kSecondsPerByte = 2e-9, kCheap = 1;  // to copy, hash and write; seconds
  const double save = kSecondsPerByte * static_cast<double>(x_float.nbytes() + x_quant.nbytes());
  return save < kCheap ? 0 : 20 * save;
}

Streams Streams::load(const std::filesystem::path& path, const Shape& shape, const at::Device& device) {
  const SafetensorsFile file(path);
  const auto read = [&](const char* name) {
    const auto it = file.tensors().find(name);
    if (it == file.tensors().end() || it->second.shape != shape || it->second.dtype != DType::kF32) {
      throw Error("{}: {} is not F32 {}; restore it", path.string(), name, to_string(shape));
    }
    return to_float_tensor(it->second, device);
  };
  return {read("x_float"), read("x_quant")};
}

at::Tensor embed_windows(const ModelSpec& spec, const TensorLookup& tensor,
                         std::span<const std::vector<int32_t>> windows, const at::Device& device) {
  const TensorView embedding = tensor(spec.embedding);
  const int64_t vocab = spec.vocab_size, hidden = spec.hidden_size;
  const auto tokens = static_cast<int64_t>(windows[0].size());
  at::Tensor x = at::empty({static_cast<int64_t>(windows.size()), tokens, hidden}, at::kFloat);
  float* out = x.data_ptr<float>();
  for (const std::vector<int32_t>& window : windows) {
    assert(static_cast<int64_t>(window.size()) == tokens);
    for (int32_t id : window) {
      if (id < 0 || id >= vocab) throw Error("token {} is outside the vocabulary of {}", id, vocab);
      copy_row(embedding, id, out);
      out += hidden;
    }
  }
  if (!spec.embedding_norm.empty()) {
    const auto load = [&](const char* part) {
      return to_float_tensor(tensor(spec.embedding_norm + part), at::kCPU);
    };
    x = normalize(spec, x, load(".weight"), spec.norm == NormKind::kLayer ? load(".bias") : at::Tensor());
  }
  if (spec.positions == Positions::kLearned) {
    const TensorView table = tensor(spec.position_embedding);
    at::Tensor positions = at::empty({tokens, hidden}, at::kFloat);
    for (int64_t t = 0; t < tokens; ++t) {
      copy_row(table, t + spec.position_offset, positions.data_ptr<float>() + t * hidden);
    }
    x += positions;
  }
  return x.to(device);
}

void propagate(const ModelSpec& spec, const Block& block, const LinearFn& linear, at::Tensor& x) {
  for_each_chunk(x, [&](int64_t first, int64_t count) {
    at::Tensor part = x.narrow(0, first, count);
    part.copy_(block_forward(spec, block, linear, part));
  });
}

}  // namespace tessera
