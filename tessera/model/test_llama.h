// A tiny random LLaMA for tests: written as a checkpoint, and computed again in double without any of the
// project's forward code. Test code only.
#pragma once

#include <cmath>
#include <map>
#include <numbers>
#include <random>

#include "tessera/base/atomic_output.h"
#include "tessera/format/reference.h"

namespace tessera {

/// Weights and config.json of a LLaMA with hidden size 32, 4 heads of 16 channels and an MLP of 48.
struct TestLlama {
  nlohmann::json config;
  std::map<std::string, Tensor> float_tensors;
  std::map<std::string, QuantizedLinear> quantized;  ///< by the linear's name; they replace P.weight
  /// Another tool's tensors, by the linear's name and their last one: written in place of `quantized`.
  std::map<std::string, std::map<std::string, Tensor>> foreign;

  /// `changes` are laid over the default config.json.
  explicit TestLlama(const nlohmann::json& changes = nlohmann::json::object(), uint32_t seed = 1)
      : random_(seed) {
    config = {{"architectures", {"LlamaForCausalLM"}},
              {"model_type", "llama"},
              {"vocab_size", 50},
              {"hidden_size", 32},
              {"intermediate_size", 48},
              {"num_hidden_layers", 2},
              {"num_attention_heads", 4},
              {"num_key_value_heads", 2},
              {"head_dim", 16},
              {"max_position_embeddings", 64},
              {"rms_norm_eps", 1e-5},
              {"rope_theta", 10000.0},
              {"tie_word_embeddings", false}};
    config.update(changes);
    const int64_t hidden = extent("hidden_size"), vocab = extent("vocab_size");
    add("model.embed_tokens", {vocab, hidden}, 1);
    if (!config["tie_word_embeddings"]) add("lm_head", {vocab, hidden}, 0.3);
    add("model.norm", {hidden}, 1);
    for (int64_t layer = 0; layer < extent("num_hidden_layers"); ++layer) {
      const std::string block = fmt::format("model.layers.{}.", layer);
      add(block + "input_layernorm", {hidden}, 1);
      add(block + "post_attention_layernorm", {hidden}, 1);
      for (const auto& [name, shape] : linear_shapes()) add(block + name, shape, 0.3);
    }
  }

  int64_t extent(const char* key) const { return config[key].get<int64_t>(); }

  std::map<std::string, Shape> linear_shapes() const {
    const int64_t h = extent("hidden_size"), i = extent("intermediate_size"), d = extent("head_dim");
    const int64_t q = extent("num_attention_heads") * d, kv = extent("num_key_value_heads") * d;
    return {{"self_attn.q_proj", {q, h}}, {"self_attn.k_proj", {kv, h}}, {"self_attn.v_proj", {kv, h}},
            {"self_attn.o_proj", {h, q}}, {"mlp.gate_proj", {i, h}},     {"mlp.up_proj", {i, h}},
            {"mlp.down_proj", {h, i}}};
  }

  /// Rounds all float tensors to binary16; write() then stores them so.
  void make_half() {
    for (auto& [name, tensor] : float_tensors) {
      Tensor half(DType::kF16, tensor.shape());
      for (int64_t i = 0; i < tensor.size(); ++i) {
        float& value = tensor.as<float>()[static_cast<size_t>(i)];
        half.as<Half>()[static_cast<size_t>(i)] = to_half(value);
        value = to_float(half.as<Half>()[static_cast<size_t>(i)]);
      }
      half_tensors_[name] = std::move(half);
    }
  }

  /// Writes config.json and model.safetensors.
  void write(const std::filesystem::path& dir) const {
    std::filesystem::create_directories(dir);
    write_file(dir / "config.json", config.dump());
    std::vector<NamedTensor> tensors;
    for (const auto& [name, tensor] : half_tensors_.empty() ? float_tensors : half_tensors_) {
      if (!quantized.contains(name)) tensors.push_back({name + ".weight", tensor.view()});
    }
    for (const auto& [name, linear] : foreign) {
      for (const auto& [last, tensor] : linear) tensors.push_back({name + "." + last, tensor.view()});
    }
    for (const auto& [name, linear] : quantized) {
      if (foreign.contains(name)) continue;
      for (NamedTensor& tensor : named_tensors(linear, name)) tensors.push_back(std::move(tensor));
    }
    write_safetensors(dir / "model.safetensors", tensors);
  }

  /// Logits [ids.size()][vocab_size], in double but for the quantized layers.
  std::vector<std::vector<double>> logits(std::span<const int32_t> ids) const {
    std::vector<std::vector<double>> hidden;
    for (int32_t id : ids) hidden.push_back(row(float_tensors.at("model.embed_tokens"), id));
    for (int64_t layer = 0; layer < extent("num_hidden_layers"); ++layer) {
      const std::string block = fmt::format("model.layers.{}.", layer);
      attention(block, hidden);
      for (auto& h : hidden) mlp(block, h);
    }
    std::vector<std::vector<double>> out;
    const char* head = config["tie_word_embeddings"] ? "model.embed_tokens" : "lm_head";
    for (const auto& h : hidden) out.push_back(linear(head, norm("model.norm", h)));
    return out;
  }

  /// Uniform in [-1, 1).
  double uniform() { return static_cast<double>(random_()) * 0x1p-31 - 1; }
  int integer(int lo, int hi) {
    return lo + static_cast<int>(random_() % static_cast<uint32_t>(hi - lo + 1));
  }

 private:
  using Row = std::vector<double>;

  void add(const std::string& name, const Shape& shape, double scale) {
    Tensor tensor(DType::kF32, shape);
    for (float& v : tensor.as<float>()) v = static_cast<float>(scale * uniform());
    float_tensors[name] = std::move(tensor);
  }

  static Row row(const Tensor& matrix, int64_t i) {
    const int64_t width = matrix.shape()[1];
    const auto values =
        matrix.as<float>().subspan(static_cast<size_t>(i * width), static_cast<size_t>(width));
    return {values.begin(), values.end()};
  }

  Row linear(const std::string& name, const Row& x) const {
    if (const auto found = quantized.find(name); found != quantized.end()) {
      const std::vector<float> in(x.begin(), x.end());
      std::vector<float> out(static_cast<size_t>(found->second.n));
      reference_forward(found->second, in, 1, out);
      return {out.begin(), out.end()};
    }
    const Tensor& weight = float_tensors.at(name);
    Row y;
    for (int64_t n = 0; n < weight.shape()[0]; ++n) {
      const Row w = row(weight, n);
      double sum = 0;
      for (size_t k = 0; k < x.size(); ++k) sum += w[k] * x[k];
      y.push_back(sum);
    }
    return y;
  }

  Row norm(const std::string& name, const Row& x) const {
    double square = 0;
    for (double v : x) square += v * v;
    const double inverse = 1 / std::sqrt(square / static_cast<double>(x.size()) + 1e-5);
    Row y;
    for (size_t i = 0; i < x.size(); ++i) y.push_back(x[i] * inverse * float_tensors.at(name).as<float>()[i]);
    return y;
  }

  /// Radians a position, from the published formulas in terms of wavelengths.
  double frequency(int64_t pair) const {
    const double d = config["head_dim"];
    const double base = std::pow(config["rope_theta"].get<double>(), -2.0 * static_cast<double>(pair) / d);
    if (!config.contains("rope_scaling")) return base;
    const auto& scaling = config["rope_scaling"];
    const double factor = scaling["factor"];
    if (scaling["rope_type"] == "linear") return base / factor;
    const double wavelength = 2 * std::numbers::pi / base,
                 context = scaling["original_max_position_embeddings"];
    const double low = scaling["low_freq_factor"], high = scaling["high_freq_factor"];
    if (wavelength > context / low) return base / factor;
    if (wavelength < context / high) return base;
    const double smooth = (context / wavelength - low) / (high - low);
    return (1 - smooth) * base / factor + smooth * base;
  }

  void rotate(Row& x, int64_t heads, int64_t position) const {
    const int64_t d = extent("head_dim");
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t i = 0; i < d / 2; ++i) {
        double &a = x[static_cast<size_t>(h * d + i)], &b = x[static_cast<size_t>(h * d + i + d / 2)];
        const double angle = static_cast<double>(position) * frequency(i);
        const double turned = a * std::cos(angle) - b * std::sin(angle);
        b = a * std::sin(angle) + b * std::cos(angle);
        a = turned;
      }
    }
  }

  void attention(const std::string& block, std::vector<Row>& hidden) const {
    const int64_t heads = extent("num_attention_heads"), kv_heads = extent("num_key_value_heads");
    const int64_t d = extent("head_dim"), window = config.value("sliding_window", int64_t{0});
    std::vector<Row> q, k, v;
    for (const Row& h : hidden) {
      const Row x = norm(block + "input_layernorm", h);
      q.push_back(linear(block + "self_attn.q_proj", x));
      k.push_back(linear(block + "self_attn.k_proj", x));
      v.push_back(linear(block + "self_attn.v_proj", x));
      const auto position = static_cast<int64_t>(q.size()) - 1;
      rotate(q.back(), heads, position);
      rotate(k.back(), kv_heads, position);
    }
    for (size_t t = 0; t < hidden.size(); ++t) {
      const size_t begin =
          window > 0 && static_cast<int64_t>(t) >= window ? t + 1 - static_cast<size_t>(window) : 0;
      Row mixed(static_cast<size_t>(heads * d), 0.0);
      for (int64_t h = 0; h < heads; ++h) {
        const auto q_at = static_cast<size_t>(h * d), kv_at = static_cast<size_t>(h * kv_heads / heads * d);
        Row weights;
        double total = 0;
        for (size_t p = begin; p <= t; ++p) {
          double score = 0;
          for (size_t i = 0; i < static_cast<size_t>(d); ++i) score += q[t][q_at + i] * k[p][kv_at + i];
          weights.push_back(std::exp(score / std::sqrt(static_cast<double>(d))));
          total += weights.back();
        }
        for (size_t p = begin; p <= t; ++p) {
          for (size_t i = 0; i < static_cast<size_t>(d); ++i) {
            mixed[q_at + i] += weights[p - begin] / total * v[p][kv_at + i];
          }
        }
      }
      const Row out = linear(block + "self_attn.o_proj", mixed);
      for (size_t i = 0; i < out.size(); ++i) hidden[t][i] += out[i];
    }
  }

  void mlp(const std::string& block, Row& hidden) const {
    const Row x = norm(block + "post_attention_layernorm", hidden);
    Row gate = linear(block + "mlp.gate_proj", x);
    const Row up = linear(block + "mlp.up_proj", x);
    for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
    const Row out = linear(block + "mlp.down_proj", gate);
    for (size_t i = 0; i < out.size(); ++i) hidden[i] += out[i];
  }

  std::map<std::string, Tensor> half_tensors_;
  std::mt19937 random_;
};

}  // namespace tessera
