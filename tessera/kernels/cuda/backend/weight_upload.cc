// The ring of page-locked pieces, and packing behind it.
#include "tessera/kernels/cuda/backend/weight_upload.h"

#include <algorithm>
#include <cstring>

#include "tessera/base/error.h"
#include "tessera/base/parallel.h"
#include "tessera/format/joined_linear.h"
#include "tessera/kernels/cuda/check.h"
#include "tessera/kernels/cuda/pack.h"
#include "tessera/kernels/cuda/packed_weights.h"

namespace tessera::cuda {
namespace {

/// memcpy by all threads.
void copy_in_parallel(const std::byte* from, size_t bytes, std::byte* to) {
  constexpr size_t kRun = size_t{256} << 10;
  parallel_for(ceil_div(static_cast<int64_t>(bytes), static_cast<int64_t>(kRun)), [&](int64_t i) {
    const size_t first = static_cast<size_t>(i) * kRun;
    std::memcpy(to + first, from + first, std::min(kRun, bytes - first));
  });
}

}  // namespace

WeightUpload::WeightUpload(cudaStream_t stream) : stream_(stream) {
  for (Piece& piece : pieces_) {
    check(cudaEventCreateWithFlags(&piece.read, cudaEventDisableTiming), "cudaEventCreate");
  }
}

WeightUpload::~WeightUpload() {
  cudaStreamSynchronize(stream_);
  for (Piece& piece : pieces_) cudaEventDestroy(piece.read);
}

/// The stream still reads the old memory, so it is waited for before that goes.
std::byte* WeightUpload::Staging::reserve(size_t bytes) {
  if (!memory_ || memory_->bytes() < bytes) {
    memory_.reset();  // cudaFree waits for the device
    memory_ = std::make_unique<DeviceBuffer>(bytes);
  }
  return memory_->as<std::byte>();
}

void WeightUpload::copy(const void* from, size_t bytes, std::byte* to) {
  for (size_t first = 0; first < bytes; first += kPieceBytes) {
    Piece& piece = pieces_[next_++ % pieces_.size()];
    const size_t count = std::min(kPieceBytes, bytes - first);
    check(cudaEventSynchronize(piece.read), "waiting for a copy");
    copy_in_parallel(static_cast<const std::byte*>(from) + first, count, piece.memory.data());
    check(cudaMemcpyAsync(to + first, piece.memory.data(), count, cudaMemcpyHostToDevice, stream_),
          "copy to the device");
    check(cudaEventRecord(piece.read, stream_), "cudaEventRecord");
  }
}

const void* WeightUpload::stage(std::span<const TensorView> tensors, Staging& staging) {
  size_t bytes = 0;
  for (const TensorView& tensor : tensors) bytes += tensor.bytes();
  std::byte* const start = staging.reserve(bytes);
  std::byte* to = start;
  for (const TensorView& tensor : tensors) {
    copy(tensor.data, tensor.bytes(), to);
    to += tensor.bytes();
  }
  return start;
}

const void* WeightUpload::stage(std::span<const QuantizedLinear* const> parts, Tensor QuantizedLinear::*field,
                                Staging& staging) {
  if ((parts[0]->*field).empty()) return nullptr;
  std::vector<TensorView> views;
  for (const QuantizedLinear* part : parts) views.push_back((part->*field).view());
  return stage(views, staging);
}

std::unique_ptr<DeviceBuffer> WeightUpload::packed(std::span<const QuantizedLinear* const> parts) {
  const QuantizedLinear& first = *parts[0];
  PackProblem p{
      .layout = layout_of(first), .n = outputs_of(parts), .k = first.k, .group_size = first.group_size};
  auto blocks = std::make_unique<DeviceBuffer>(static_cast<size_t>(packed_bytes(p.layout, p.n, p.k)));
  p.codes = stage(parts, &QuantizedLinear::qweight, codes_);
  p.group_scale = static_cast<const int8_t*>(stage(parts, &QuantizedLinear::group_scale, group_scale_));
  p.group_zero = static_cast<const uint8_t*>(stage(parts, &QuantizedLinear::group_zero, group_zero_));
  p.blocks = blocks->data();
  pack(p, stream_);
  return blocks;
}

std::unique_ptr<DeviceBuffer> WeightUpload::packed_outliers(std::span<const QuantizedLinear* const> parts) {
  const QuantizedLinear& first = *parts[0];
  if (first.outlier_index.empty()) return nullptr;
  const int64_t n = outputs_of(parts), count = first.outlier_index.view().size();
  auto packed = std::make_unique<DeviceBuffer>(static_cast<size_t>(
      ceil_div(n, kBlockOutputs) * padded_outliers(first) / kOutlierColumns * kOutlierBlockBytes));
  pack_outliers(stage(parts, &QuantizedLinear::outlier_weight, codes_), n, count, packed->data(), stream_);
  return packed;
}

std::unique_ptr<DeviceBuffer> WeightUpload::halves(std::span<const TensorView> parts) {
  int64_t count = 0;
  for (const TensorView& part : parts) count += part.size();
  auto halves = std::make_unique<DeviceBuffer>(static_cast<size_t>(count) * sizeof(Half));
  int64_t first = 0;
  for (const TensorView& part : parts) {
    to_halves(stage({&part, 1}, codes_), part.dtype, part.size(),
              halves->as<Half>(static_cast<size_t>(first) * sizeof(Half)), too_large_.as<int32_t>(), stream_);
    first += part.size();
  }
  check_too_large();
  return halves;
}

FloatCodesMemory WeightUpload::float_codes(std::span<const QuantizedLinear* const> parts,
                                           int64_t group_size) {
  const QuantizedLinear& first = *parts[0];
  FloatCodesProblem p{.n = outputs_of(parts),
                      .k = first.k,
                      .twos_complement = first.weight_format == WeightFormat::kInt4,
                      .group_size = group_size,
                      .half_scale = first.weight_format == WeightFormat::kUint4Float};
  FloatCodesMemory memory{
      std::make_unique<DeviceBuffer>(static_cast<size_t>(p.n * p.k / 2)),
      std::make_unique<DeviceBuffer>(static_cast<size_t>(p.n * (p.k / p.group_size)) * 2 * sizeof(Half))};
  p.codes = stage(parts, &QuantizedLinear::qweight, codes_);
  p.group_scale = stage(parts, &QuantizedLinear::group_scale, group_scale_);
  p.group_zero = static_cast<const uint8_t*>(stage(parts, &QuantizedLinear::group_zero, group_zero_));
  p.words = memory.words->data();
  p.groups = memory.groups->data();
  pack_float_codes(p, too_large_.as<int32_t>(), stream_);
  check_too_large();
  return memory;
}

void WeightUpload::check_too_large() {
  int32_t too_large = 0;
  check(cudaMemcpyAsync(&too_large, too_large_.data(), sizeof too_large, cudaMemcpyDeviceToHost, stream_),
        "download of a flag");
  check(cudaStreamSynchronize(stream_), "waiting for the device");
  if (too_large != 0) throw Error("CUDA: a weight is larger than 65504, the largest number of 16 bits");
}

}  // namespace tessera::cuda
