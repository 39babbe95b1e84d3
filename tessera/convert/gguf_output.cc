// Names, types, order of rows, and the walk over the tensors.
#include "tessera/convert/gguf_output.h"

#include <cstring>
#include <functional>

#include "tessera/arch/rope.h"
#include "tessera/convert/gguf_metadata.h"
#include "tessera/convert/gguf_vocabulary.h"
#include "tessera/source/gguf_names.h"
#include "tessera/source/gguf_writer.h"

namespace tessera {
namespace {

/// A tensor to come.
struct Item {
  GgufEntry entry;
  std::function<Tensor()> make;  ///< its data, row by row
};

const GgufFormat* format_named(const std::string& name) {
  constexpr uint32_t kTypes = 64;
  for (uint32_t id = 0; id < kTypes; ++id) {
    if (const GgufFormat* format = gguf_format(id); format && format->name == name) return format;
  }
  throw Error("{} is no type of GGUF", name);
}

const GgufFormat* plain_format(DType dtype) {
  return format_named(dtype == DType::kF16 ? "F16" : dtype == DType::kBF16 ? "BF16" : "F32");
}

class Plan {
 public:
  explicit Plan(const SourceModel& model)
      : model_(model), interleaves_(gguf_architecture(model) == "llama") {}

  /// A tensor of floats: vectors become F32.
  void add_floats(const std::string& name) {
    const TensorInfo& info = model_.checkpoint().info(name);
    const bool vector = info.shape.size() == 1;
    add(name, plain_format(vector ? DType::kF32 : info.dtype), info.shape, [this, name, vector] {
      const TensorView view = model_.checkpoint().at(name);
      return vector ? Tensor::from<float>(to_floats(view), view.shape) : Tensor(view);
    });
  }

  void add_linear(const LinearOutcome& outcome) {
    const SourceModel::Linear& linear = outcome.linear;
    add(linear.name + ".weight", format_named(outcome.scheme.get<std::string>()), {linear.n, linear.k},
        [this, linear, writer = outcome.writer, options = outcome.options] {
          return std::move(
              writer->write(model_.load(linear), model_.where(linear), options).tensors.at(0).second);
        });
    const std::string bias = linear.name + ".bias";
    if (model_.checkpoint().contains(bias)) add_floats(bias);
  }

  /// LLaMA 3's divisors of the frequencies, which llama.cpp takes from a tensor.
  void add_rope_factors() {
    const ModelSpec& spec = model_.spec();
    if (spec.rope.type != RopeConfig::Type::kLlama3) return;
    const auto plain = rope_frequencies({.theta = spec.rope.theta}, spec.head_dim),
               scaled = rope_frequencies(spec.rope, spec.head_dim);
    std::vector<float> factors;
    for (size_t i = 0; i < plain.size(); ++i) factors.push_back(static_cast<float>(plain[i] / scaled[i]));
    const Shape shape = {std::ssize(factors)};
    items_.push_back({{kRopeFactors, plain_format(DType::kF32), shape},
                      [factors, shape] { return Tensor::from<float>(factors, shape); }});
  }

  const std::vector<Item>& items() const { return items_; }

 private:
  void add(const std::string& name, const GgufFormat* format, const Shape& shape,
           std::function<Tensor()> make) {
    const std::string stored = gguf_name(name);
    if (stored.empty())
      throw Error("{}: llama.cpp has no such tensor in models of {}", name, model_.spec().family);
    items_.push_back({{stored, format, shape}, [this, stored, make = std::move(make)] {
                        return interleaved(make(), GgufTensorName(stored).stem);
                      }});
  }

  /// The rows of q and k in the order of llama.cpp.
  Tensor interleaved(Tensor tensor, std::string_view stem) const {
    const int64_t heads = !interleaves_      ? 0
                          : stem == "attn_q" ? model_.spec().n_heads
                          : stem == "attn_k" ? model_.spec().n_kv_heads
                                             : 0;
    if (heads == 0) return tensor;
    Tensor moved(tensor.dtype(), tensor.shape());
    const int64_t rows = tensor.shape()[0], bytes = static_cast<int64_t>(tensor.bytes()) / rows;
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(moved.data() + stored_row(r, rows, heads) * bytes, tensor.data() + r * bytes,
                  static_cast<size_t>(bytes));
    }
    return moved;
  }

  const SourceModel& model_;
  bool interleaves_;
  std::vector<Item> items_;
};

nlohmann::ordered_json metadata_of(const SourceModel& model, const std::string& name) {
  nlohmann::ordered_json metadata = gguf_parameters(model, name);
  metadata.update(gguf_vocabulary(model.files(), model.checkpoint().dir(), model.spec().vocab_size));
  return metadata;
}

}  // namespace

void check_gguf(const SourceModel& model) {
  metadata_of(model, "");
}

void write_gguf_file(const SourceModel& model, const std::vector<LinearOutcome>& outcomes,
                     const std::filesystem::path& path, Reporter& reporter) {
  Plan plan(model);
  const int64_t layers = model.spec().n_layers;
  for (const std::string& name : model.float_tensors(layers)) plan.add_floats(name);
  plan.add_rope_factors();
  const auto add_linears = [&](int64_t layer) {
    for (const LinearOutcome& outcome : outcomes) {
      if (outcome.linear.layer == layer && outcome.linear.quantized) plan.add_linear(outcome);
    }
  };
  for (int64_t layer = 0; layer < layers; ++layer) {
    for (const std::string& name : model.float_tensors(layer)) plan.add_floats(name);
    add_linears(layer);
  }
  add_linears(layers);
  std::vector<GgufEntry> entries;
  for (const Item& item : plan.items()) entries.push_back(item.entry);
  GgufWriter file(path, metadata_of(model, path.stem().string()), entries);
  for (const Item& item : plan.items()) {
    const Tensor data = item.make();
    file.add({data.data(), data.bytes()});
    reporter.progress("writing, tensors", &item - plan.items().data() + 1, std::ssize(entries));
  }
  file.commit();
}

}  // namespace tessera
