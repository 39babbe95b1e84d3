// From a checkpoint to kernels, site by site.
#include "tessera/model/weights.h"

#include <algorithm>
#include <cmath>

#include "tessera/base/heap.h"
#include "tessera/format/joined_linear.h"
#include "tessera/format/load_linear.h"
#include "tessera/model/device_plan.h"

namespace tessera {
namespace {

constexpr size_t kMostOfGlibc = size_t{32} << 20;  // what glibc raises its own limit to

class WeightLoader {
 public:
  WeightLoader(const ModelSpec& spec, const Checkpoint& checkpoint,
               const std::optional<QuantizationConfig>& quantization, Backend& backend)
      : spec_(spec), checkpoint_(checkpoint), quantization_(quantization), backend_(backend) {}

  ModelWeights load() {
    check_tensors(spec_, checkpoint_);
    check_overrides();
    check_label();
    if (const auto memory = backend_.own_memory()) {
      check_fits(plan_device(spec_, checkpoint_, quantization_, backend_.limits()), *memory,
                 checkpoint_.dir().string());
    }
    weights_.embedding =
        load_float({checkpoint_.at(spec_.embedding)}, spec_.tied_embeddings ? sum_order() : SumOrder::kNone);
    if (spec_.positions == Positions::kLearned) {
      weights_.position_embedding = load_float({checkpoint_.at(spec_.position_embedding)}, SumOrder::kNone);
    }
    if (!spec_.embedding_norm.empty()) weights_.embedding_norm = norm(spec_.embedding_norm);
    if (spec_.positions == Positions::kAlibi) weights_.alibi_slopes = to_device(spec_.alibi_slopes, backend_);
    for (int64_t layer = 0; layer < spec_.n_layers; ++layer) {
      weights_.blocks.push_back(block(layer));
      checkpoint_.release_pages();  // kernels have copies of all but float matrices, which come back when
                                    // they are used
    }
    weights_.final_norm = norm(spec_.final_norm);
    load_lm_head();
    checkpoint_.release_pages();
    return std::move(weights_);
  }

 private:
  void check_label() {
    if (!quantization_) return;
    for (int64_t layer = 0; layer < spec_.n_layers; ++layer) {
      for (LinearId id : spec_.linear_ids()) {
        if (is_quantized(checkpoint_, spec_.linear_name(layer, id))) return;
      }
    }
    throw Error(
        "{}: config.json or quantize_config.json says that the model is quantized, but no linear layer holds "
        "codes; take that out when the weights are floats",
        checkpoint_.dir().string());
  }

  /// A misspelt name would silently leave a layer in the wrong format.
  void check_overrides() {
    if (!quantization_) return;
    for (const auto& [name, format] : quantization_->overrides) {
      const auto is_named = [&wanted = name](const LinearSpec& linear) {
        return last_component(linear.name) == wanted;
      };
      if (name != last_component(spec_.lm_head_name()) &&
          std::none_of(spec_.linears.begin(), spec_.linears.end(), is_named)) {
        throw Error(
            "{}: config.json: activation_overrides names '{}', which is no linear layer of this model",
            checkpoint_.dir().string(), name);
      }
    }
  }

  BlockWeights block(int64_t layer) {
    BlockWeights block;
    for (NormId id : spec_.existing_norms()) block.norms[id] = norm(spec_.norm_name(layer, id));
    for (const Site& site : spec_.sites) block.sites.push_back(load_site(layer, site));
    return block;
  }

  /// What a quantized model computes does not depend on the batch, so the floats in it may not either.
  SumOrder sum_order() const { return quantization_ ? SumOrder::kFixed : SumOrder::kByBatch; }
  std::unique_ptr<Linear> load_float(const FloatWeight& weight, SumOrder order) {
    return backend_.load(std::span(&weight, 1), order);
  }

  std::vector<float> finite_vector(const std::string& name) {
    return finite_vector(checkpoint_.at(name), name);
  }

  std::vector<float> finite_vector(const TensorView& tensor, const std::string& name) {
    std::vector<float> values = to_floats(tensor);
    if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) {
      throw Error("{}: {} holds a value that is not finite; the checkpoint is damaged",
                  checkpoint_.dir().string(), name);
    }
    return values;
  }

  NormWeights norm(const std::string& name) {
    NormWeights weights;
    weights.layer_norm = spec_.norm == NormKind::kLayer;
    weights.eps = spec_.norm_eps;
    weights.gain = to_device(finite_vector(name + ".weight"), backend_);
    if (weights.layer_norm) weights.bias = to_device(finite_vector(name + ".bias"), backend_);
    return weights;
  }

  void load_lm_head() {
    Stored head;
    head.name = spec_.lm_head_name();
    if (is_quantized(checkpoint_, head.name)) {
      LinearSpec shape;
      shape.n = spec_.vocab_size, shape.k = spec_.hidden_size;
      read_codes(shape, head);
    } else {
      head.weight = checkpoint_.at(spec_.lm_head);
      head.bytes = head.weight.bytes();
      if (checkpoint_.contains(spec_.lm_head_bias())) head.bias = finite_vector(spec_.lm_head_bias());
    }
    weights_.lm_head_input = input_of(head);
    if (!spec_.tied_embeddings) weights_.untied_lm_head = load_group({&head, 1}, *weights_.lm_head_input);
    record(head.name, spec_.vocab_size, spec_.hidden_size, head.bytes, weights_.lm_head());
  }

  /// A linear as the checkpoint holds it.
  struct Stored {
    std::string name;
    std::optional<QuantizedLinear> quantized;  ///< empty: floats
    TensorView weight;                         ///< of floats
    std::vector<float> bias;
    size_t bytes = 0;

    int64_t n() const { return quantized ? quantized->n : weight.shape[0]; }
    int64_t k_in() const { return quantized ? quantized->k_in() : weight.shape[1]; }
  };

  Stored read(int64_t layer, LinearId id) {
    Stored stored;
    stored.name = spec_.linear_name(layer, id);
    if (is_quantized(checkpoint_, stored.name)) {
      read_codes(spec_.linears[id], stored);
      return stored;
    }
    stored.weight = linear_weight(checkpoint_, spec_, layer, id);
    stored.bytes = stored.weight.bytes();
    if (spec_.linears[id].bias) {
      const TensorView bias = linear_bias(checkpoint_, spec_, layer, id);
      stored.bias = finite_vector(bias, spec_.source_name(layer, id) + ".bias");
      stored.bytes += bias.bytes();
    }
    return stored;
  }

  void read_codes(const LinearSpec& shape, Stored& stored) {
    stored.quantized = quantized_linear(stored.name, shape);
    stored.bytes = stored.quantized->bytes();
    weights_.max_input_width = std::max(weights_.max_input_width, stored.quantized->k);
  }

  static bool reads_the_same(const Stored& a, const Stored& b) {
    return a.quantized && b.quantized ? same_input(*a.quantized, *b.quantized) : !a.quantized && !b.quantized;
  }
  static bool run_as_one(const Stored& a, const Stored& b) {
    return a.quantized && b.quantized ? can_join(*a.quantized, *b.quantized) : !a.quantized && !b.quantized;
  }

  /// The linears of a site in groups that run as one; a group prepares its input anew only where it must.
  std::vector<LinearGroup> load_site(int64_t layer, const Site& site) {
    std::vector<Stored> readers;
    for (LinearId id : site.readers) readers.push_back(read(layer, id));
    std::vector<LinearGroup> groups;
    const InputFormat* input = nullptr;
    int64_t first_output = 0;
    for (size_t begin = 0, end = 0; begin < readers.size(); begin = end) {
      LinearGroup group;
      group.first_output = first_output;
      if (begin == 0 || !reads_the_same(readers[begin - 1], readers[begin])) {
        group.input = input_of(readers[begin]);
        input = group.input.get();
      }
      while (end < readers.size() && run_as_one(readers[begin], readers[end])) {
        first_output += readers[end++].n();
      }
      const auto members = std::span(readers).subspan(begin, end - begin);
      group.linear = load_group(members, *input);
      for (const Stored& member : members) {
        record(member.name, member.n(), member.k_in(), member.bytes, *group.linear);
      }
      groups.push_back(std::move(group));
    }
    return groups;
  }

  std::unique_ptr<InputFormat> input_of(const Stored& reader) {
    return reader.quantized ? backend_.input_of(*reader.quantized) : backend_.float_input(reader.k_in());
  }

  std::unique_ptr<Linear> load_group(std::span<const Stored> members, const InputFormat& input) {
    if (!members[0].quantized) {
      std::vector<FloatWeight> parts;
      for (const Stored& member : members) parts.push_back({member.weight, member.bias});
      return backend_.load(parts, sum_order());
    }
    std::vector<const QuantizedLinear*> parts;
    for (const Stored& member : members) parts.push_back(&*member.quantized);
    return backend_.load(parts, input);
  }

  QuantizedLinear quantized_linear(const std::string& name, const LinearSpec& shape) {
    if (!quantization_) {
      throw Error("{}: {} is quantized, but config.json has no quantization_config",
                  checkpoint_.dir().string(), name);
    }
    QuantizedLinear linear = load_quantized_linear(checkpoint_, name, *quantization_, shape.n, shape.k);
    linear.require_kernel(fmt::format("{}: {}", checkpoint_.dir().string(), name));
    if (shape.bias && linear.bias.empty()) {
      throw Error("{}: {}.bias is missing", checkpoint_.dir().string(), name);
    }
    return linear;
  }

  void record(const std::string& name, int64_t n, int64_t k, size_t bytes, const Linear& linear) {
    weights_.linears.push_back({name, n, k, bytes, linear.info(), &linear});
    weights_.max_input_width = std::max(weights_.max_input_width, k);
  }

  const ModelSpec& spec_;
  const Checkpoint& checkpoint_;
  const std::optional<QuantizationConfig>& quantization_;
  Backend& backend_;
  ModelWeights weights_;
};

}  // namespace

std::unique_ptr<Buffer> to_device(std::span<const float> values, Backend& backend) {
  auto buffer = backend.allocate(values.size_bytes());
  backend.upload(std::as_bytes(values), *buffer);
  return buffer;
}

ModelWeights load_weights(const ModelSpec& spec, const Checkpoint& checkpoint,
                          const std::optional<QuantizationConfig>& quantization, Backend& backend) {
  // What is on its way to the kernels must leave no holes in the heap; later, blocks come back cheaply from
  // there.
  limit_heap_blocks(size_t{1} << 20);
  ModelWeights weights = WeightLoader(spec, checkpoint, quantization, backend).load();
  limit_heap_blocks(kMostOfGlibc);
  return weights;
}

}  // namespace tessera
