// The CUDA backend: every operation of Backend as launches on one stream. The residual stream is float, what
// blocks add to it and everything between their layers half, logits float.
#include "tessera/kernels/cuda/backend/cuda_backend.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <optional>

#include "tessera/base/error.h"
#include "tessera/format/joined_linear.h"
#include "tessera/kernels/cuda/backend/cuda_batch.h"
#include "tessera/kernels/cuda/backend/cuda_kv_pool.h"
#include "tessera/kernels/cuda/backend/cuda_linear.h"
#include "tessera/kernels/cuda/backend/cuda_sampler.h"
#include "tessera/kernels/cuda/backend/weight_upload.h"
#include "tessera/kernels/cuda/check.h"
#include "tessera/kernels/cuda/rows.h"

namespace tessera::cuda {
namespace {

constexpr int64_t kStepRows = 2048, kLogitElements = int64_t{1} << 26;  // 256 MiB of logits at once

/// Batch sizes of recorded decode steps: the widths of the GEMM's tiles. A batch runs as the next larger one.
constexpr int64_t kGraphRows[] = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256};

bool enabled(const char* variable) {
  const char* value = std::getenv(variable);
  return !value || std::string_view(value) != "0";
}

HeadRows heads_of(const Rows& rows) {
  assert(rows.type == DType::kF16);
  return {rows.data, rows.stride};
}

HeadNorm norm_of(const NormWeights* weights) {
  if (!weights) return {};
  return {.gain = weights->gain->floats(),
          .bias = weights->bias ? weights->bias->floats() : nullptr,
          .epsilon = weights->eps,
          .layer_norm = weights->layer_norm};
}

void set_norm(const NormWeights& weights, ActivationProblem& p) {
  p.source = weights.layer_norm ? ActivationSource::kLayerNorm : ActivationSource::kRmsNorm;
  p.weight = weights.gain->data();
  p.bias = weights.bias ? weights.bias->data() : nullptr;
  p.norm_type = OutputType::kFloat;
  p.epsilon = weights.eps;
}

void set_rows(const Rows& x, ActivationProblem& p) {
  p.x = x.data;
  p.stride = x.stride;
  p.type = x.type == DType::kF32 ? OutputType::kFloat : OutputType::kHalf;
}

const CudaBatch& device(const DeviceBatch& batch) {
  return static_cast<const CudaBatch&>(batch);
}
const CudaInputFormat& device(const InputFormat& format) {
  return static_cast<const CudaInputFormat&>(format);
}

/// Memory that grows. A step that was recorded with the old memory must not be replayed.
class Scratch {
 public:
  void* reserve(size_t bytes, int64_t& generation) {
    if (!memory_ || memory_->bytes() < bytes) {
      memory_.reset();
      memory_ = std::make_unique<DeviceBuffer>(bytes + bytes / 4);
      ++generation;
    }
    return memory();
  }
  void* memory() const { return memory_->data(); }

 private:
  std::unique_ptr<DeviceBuffer> memory_;
};

class CudaBackend : public Backend {
 public:
  explicit CudaBackend(int device) : device_(device) {
    check(cudaSetDevice(device), "cudaSetDevice");
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
    name_ = fmt::format("cuda:{} {}", device, properties.name);
  }
  ~CudaBackend() override {
    upload_.reset();
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
  }

  std::string name() const override { return name_; }
  StepLimits limits() const override { return {kStepRows, kLogitElements}; }

  std::optional<DeviceMemory> own_memory() const override {
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return DeviceMemory{total, free};
  }

  std::unique_ptr<Buffer> allocate(size_t bytes) override {
    ++generation_;  // it may replace memory that recorded steps use
    return std::make_unique<DeviceBuffer>(bytes);
  }
  void upload(std::span<const std::byte> from, Buffer& to) override {
    copy_to_device(from.data(), from.size(), static_cast<DeviceBuffer&>(to));
  }
  RowBuffer make_rows(RowUse use, int64_t count, int64_t width) override {
    const DType type = use == RowUse::kIntermediate ? DType::kF16 : DType::kF32;
    const int64_t stride = (width + 31) / 32 * 32;
    auto memory = allocate(static_cast<size_t>(count * stride) * size_of(type));
    const Rows rows{memory->data(), type, count, width, stride};
    return {std::move(memory), rows};
  }
  void download(const Rows& from, std::span<float> to) override {
    const size_t row = static_cast<size_t>(from.width) * size_of(from.type);
    std::vector<std::byte> bytes(static_cast<size_t>(from.count) * row);
    check(
        cudaMemcpy2DAsync(bytes.data(), row, from.data, static_cast<size_t>(from.stride) * size_of(from.type),
                          row, static_cast<size_t>(from.count), cudaMemcpyDeviceToHost, stream_),
        "download of rows");
    synchronize();
    copy_to_float({from.type, {from.count, from.width}, bytes.data()}, to);
  }

  std::unique_ptr<InputFormat> float_input(int64_t width) override {
    return std::make_unique<CudaInputFormat>(width);
  }
  std::unique_ptr<InputFormat> input_of(const QuantizedLinear& linear) override {
    return std::make_unique<CudaInputFormat>(linear);
  }
  std::unique_ptr<Linear> load(std::span<const QuantizedLinear* const> parts, const InputFormat&) override {
    if (!parts[0]->activation.weight_only()) return std::make_unique<IntegerLinear>(parts, upload());
    if (CodeLinear::runs(*parts[0])) return std::make_unique<CodeLinear>(parts, upload());
    if (parts.size() == 1) return std::make_unique<HalfLinear>(*parts[0], upload());
    return std::make_unique<HalfLinear>(join_outputs(parts), upload());
  }
  std::unique_ptr<Linear> load(std::span<const FloatWeight> parts, SumOrder order) override {
    if (order == SumOrder::kByBatch && !cublas_) cublas_ = std::make_unique<Cublas>(stream_);
    return std::make_unique<HalfLinear>(parts, order == SumOrder::kByBatch ? cublas_.get() : nullptr,
                                        upload());
  }

  std::unique_ptr<LinearInput> make_input(int64_t max_rows, int64_t max_width) override {
    return std::make_unique<CudaInput>(max_rows, max_width);
  }
  std::unique_ptr<KvPool> make_kv_pool(const KvShape& shape, int64_t pages) override {
    const std::string obstacle =
        attention_obstacle(shape.format, shape.head_dim, shape.n_heads, shape.n_kv_heads);
    if (!obstacle.empty()) throw Error("CUDA: attention does not run {}", obstacle);
    return std::make_unique<CudaKvPool>(shape, pages);
  }
  std::unique_ptr<DeviceBatch> make_batch() override { return std::make_unique<CudaBatch>(kStepRows); }
  void upload(const Batch& from, DeviceBatch& to) override {
    check(cudaSetDevice(device_), "cudaSetDevice");  // a step may run on another thread than the one before
    static_cast<CudaBatch&>(to).upload(from, padded_rows(from), stream_);
  }
  void run(const DeviceBatch& batch, KvPool& pool, const std::function<void()>& operations) override {
    upload_.reset();
    if (!graphs_ || !device(batch).decodes_only() || batch.rows() > std::ranges::max(kGraphRows))
      return operations();
    reserve_spans(device(batch), pool.shape());
    CudaKvPool::Graphs& graphs = static_cast<CudaKvPool&>(pool).graphs;
    if (std::exchange(graphs.generation, generation_) != generation_) graphs.by_size.clear();
    const auto [at, first] = graphs.by_size.try_emplace({batch.rows(), padded_spans(device(batch))});
    if (first) return operations();  // with whatever is made on first use
    if (!at->second) at->second = std::make_unique<StepGraph>(stream_, operations);
    at->second->launch(stream_);
  }

  void embed(const EmbeddingTables& tables, const DeviceBatch& batch, const Rows& h) override {
    EmbedProblem p{.rows = h.count,
                   .width = h.width,
                   .tokens = static_cast<const HalfLinear&>(*tables.tokens).weights(),
                   .position_offset = tables.position_offset,
                   .id = device(batch).ids(),
                   .position = device(batch).positions(),
                   .h = static_cast<float*>(h.data),
                   .stride = h.stride};
    if (tables.positions) p.positions = static_cast<const HalfLinear&>(*tables.positions).weights();
    if (tables.norm) {
      const HeadNorm norm = norm_of(tables.norm);
      p.gain = norm.gain, p.bias = norm.bias, p.epsilon = norm.epsilon, p.layer_norm = norm.layer_norm;
    }
    cuda::embed(p, stream_);
  }

  void add(const Rows& delta, const Rows& h) override {
    cuda::add(delta.data, delta.stride, h.count, h.width, static_cast<float*>(h.data), h.stride, stream_);
  }

  void add_norm(const Rows& h, const Rows* delta, const NormWeights& weights, const InputFormat& format,
                LinearInput& out) override {
    ActivationProblem p = norm_problem(h, delta, h.count, weights, format, out);
    p.added.sum = static_cast<float*>(h.data);
    quantize_activations(p, stream_, overlap_);
  }

  void norm_wanted(const Rows& h, const Rows* delta, const DeviceBatch& batch, int64_t first, int64_t count,
                   const NormWeights& weights, const InputFormat& format, LinearInput& out) override {
    ActivationProblem p = norm_problem(h, delta, count, weights, format, out);
    p.rows = device(batch).logit_rows() + first;
    quantize_activations(p, stream_, overlap_);
  }

  void prepare(const Rows& x, const InputFormat& format, LinearInput& out) override {
    auto& input = static_cast<CudaInput&>(out);
    if (device(format).halves() && x.type == DType::kF16)
      return input.refer_to(device(format), x.data, x.stride);
    ActivationProblem p = input.make(device(format), x.count);
    set_rows(x, p);
    quantize_activations(p, stream_, overlap_);
  }

  void linear(const Linear& weights, const LinearInput& input, const Rows& out, bool accumulate) override {
    static_cast<const CudaLinear&>(weights).run(static_cast<const CudaInput&>(input), out, accumulate,
                                                stream_, overlap_);
  }

  void append(const Rows& q, const Rows& k, const Rows& v, const HeadRule& rule, const DeviceBatch& batch,
              int64_t layer, KvPool& pool) override {
    const KvPages pages = static_cast<CudaKvPool&>(pool).layer(layer);
    AppendProblem p{.q = heads_of(q),
                    .k = heads_of(k),
                    .v = heads_of(v),
                    .rows = q.count,
                    .rows_of_warp = device(batch).decodes_only() ? 1 : 8,
                    .heads = static_cast<int>(q.width) / pages.head_dim,
                    .query_norm = norm_of(rule.query_norm),
                    .key_norm = norm_of(rule.key_norm),
                    .position = device(batch).positions(),
                    .sequence = device(batch).sequence(),
                    .page = device(batch).row_page(),
                    .pages = pages};
    if (rule.rope) p.cos = rule.rope->cos->floats(), p.sin = rule.rope->sin->floats();
    cuda::append(p, stream_, overlap_);
  }

  void attention(const Rows& q, const DeviceBatch& batch, int64_t layer, const KvPool& pool,
                 const AttentionRule& rule, const InputFormat& format, LinearInput& out) override {
    const CudaBatch& b = device(batch);
    reserve_spans(b, pool.shape());
    const int64_t stride = (q.width + 31) / 32 * 32;
    const Rows rows{attended_.reserve(static_cast<size_t>(kStepRows * stride) * 2, generation_), DType::kF16,
                    q.count, q.width, stride};
    const int heads = static_cast<int>(pool.shape().n_heads);
    AttentionProblem p{.q = heads_of(q),
                       .out = heads_of(rows),
                       .spans = {.out = static_cast<float*>(span_out_.memory()),
                                 .ends = static_cast<float2*>(span_ends_.memory()),
                                 .heads = heads,
                                 .head_dim = static_cast<int>(pool.shape().head_dim),
                                 .rows = b.row_spans()},
                       .heads = heads,
                       .pages = static_cast<const CudaKvPool&>(pool).layer(layer),
                       .window = static_cast<int32_t>(rule.window),
                       .alibi_slopes = rule.alibi_slopes,
                       .counts = b.counts(),
                       .decode = b.decode(),
                       .prefill = b.prefill(),
                       .page_list = b.pages()};
    if (!b.decodes_only()) {
      int64_t tasks = 0;
      for (int64_t count : b.prefill_rows())
        tasks += prefill_tasks(count, p.heads, p.pages.kv_heads, p.pages.head_dim);
      attend_prefill(p, tasks, stream_);
    }
    if (b.spans() == 0) return prepare(rows, format, out);
    attend_decode(p, padded_spans(b), stream_, overlap_);
    ActivationProblem sums = static_cast<CudaInput&>(out).make(device(format), q.count);
    set_rows(rows, sums);
    sums.source = ActivationSource::kAttention;
    sums.spans = p.spans;
    quantize_activations(sums, stream_, overlap_);
  }

  void glu(const Rows* gate, const Rows& up, GluActivation activation, const InputFormat& format,
           LinearInput& out) override {
    ActivationProblem p = static_cast<CudaInput&>(out).make(device(format), up.count);
    set_rows(gate ? *gate : up, p);
    p.up = gate ? up.data : nullptr;
    assert(!gate || gate->stride == up.stride);
    p.source = gate && activation == GluActivation::kSilu ? ActivationSource::kSiluProduct
                                                          : ActivationSource::kActivated;
    p.function = activation;
    quantize_activations(p, stream_, overlap_);
  }

  void sample(const Rows& logits, std::span<const Draw> draws, std::span<int32_t> ids) override {
    sampler_.sample(logits, draws, ids, stream_);
  }

 private:
  /// What loads weights, until a model runs.
  WeightUpload& upload() {
    if (!upload_) upload_.emplace(stream_);
    return *upload_;
  }

  /// The next of kGraphRows when every sequence decodes, else the batch's own rows.
  int64_t padded_rows(const Batch& batch) const {
    const auto next = std::ranges::lower_bound(kGraphRows, batch.rows());
    const bool decodes = batch.rows() == batch.sequences();
    return graphs_ && decodes && next != std::end(kGraphRows) ? *next : batch.rows();
  }

  /// Spans that a step gets blocks for. Few different numbers, so that steps find themselves recorded.
  int64_t padded_spans(const CudaBatch& batch) const {
    if (!graphs_ || !batch.decodes_only()) return batch.spans();
    const auto step =
        std::max<int64_t>(1, static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(batch.spans()))) / 4);
    return (batch.spans() + step - 1) / step * step;
  }

  /// Room for what the spans of a step leave.
  void reserve_spans(const CudaBatch& batch, const KvShape& shape) {
    const auto heads = static_cast<size_t>(std::max<int64_t>(1, batch.spans()) * shape.n_heads);
    span_out_.reserve(heads * static_cast<size_t>(shape.head_dim) * sizeof(float), generation_);
    span_ends_.reserve(heads * sizeof(float2), generation_);
  }

  ActivationProblem norm_problem(const Rows& h, const Rows* delta, int64_t count, const NormWeights& weights,
                                 const InputFormat& format, LinearInput& out) {
    ActivationProblem p = static_cast<CudaInput&>(out).make(device(format), count);
    set_rows(h, p);
    set_norm(weights, p);
    if (delta) p.added = {.delta = delta->data, .stride = delta->stride};
    return p;
  }

  void synchronize() { check(cudaStreamSynchronize(stream_), "waiting for the device"); }

  int device_;
  std::string name_;
  cudaStream_t stream_ = nullptr;
  bool overlap_ = enabled("TESSERA_PDL"), graphs_ = enabled("TESSERA_GRAPHS");
  std::optional<WeightUpload> upload_;
  std::unique_ptr<Cublas> cublas_;
  Scratch attended_, span_out_, span_ends_;
  CudaSampler sampler_{kStepRows};
  int64_t generation_ = 0;  ///< of the memory that recorded steps use
};

}  // namespace
}  // namespace tessera::cuda

namespace tessera {

std::unique_ptr<Backend> make_cuda_backend(int device) {
  int count = 0, driver = 0, runtime = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver || status == cudaErrorNoDevice || count == 0) {
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (driver == 0) throw Error("there is no NVIDIA driver on this machine; use --device cpu");
    if (driver < runtime) {
      throw Error("the NVIDIA driver is for CUDA {}.{}, this program needs {}.{}; update the driver",
                  driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    }
    throw Error("there is no NVIDIA GPU on this machine; use --device cpu");
  }
  cuda::check(status, "cudaGetDeviceCount");
  if (device < 0 || device >= count) {
    throw Error("there is no GPU cuda:{}; this machine has {}", device,
                count == 1 ? "cuda:0 alone" : fmt::format("cuda:0 to cuda:{}", count - 1));
  }
  cuda::check(cudaSetDevice(device), "cudaSetDevice");
  const int major = cuda::device_attribute(cudaDevAttrComputeCapabilityMajor);
  const int minor = cuda::device_attribute(cudaDevAttrComputeCapabilityMinor);
  if (major < 8) {
    throw Error("cuda:{} has compute capability {}.{}; the kernels need 8.0 or later; use --device cpu",
                device, major, minor);
  }
  return std::make_unique<cuda::CudaBackend>(device);
}

}  // namespace tessera
