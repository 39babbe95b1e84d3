// Tests of the model families' tables.
#include "tessera/arch/model_spec.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tessera/base/test_error.h"
#include "tessera/base/test_paths.h"

namespace tessera {
namespace {

using nlohmann::json;

json llama_config() {
  return json::parse(
      R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 100, "hidden_size": 64,
      "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2,
      "max_position_embeddings": 32, "rms_norm_eps": 1e-5, "tie_word_embeddings": true})");
}

json opt_config() {
  return json::parse(
      R"({"architectures": ["OPTForCausalLM"], "model_type": "opt", "vocab_size": 100, "hidden_size": 64,
      "ffn_dim": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 32,
      "word_embed_proj_dim": 64, "do_layer_norm_before": true})");
}

/// The config.json of a model in tests/golden, whose tensors Transformers wrote.
ModelConfig tiny_config(const char* model) {
  return ModelConfig::load(std::filesystem::path(TESSERA_SOURCE_DIR) / "tests" / "golden" / model);
}

ModelSpec spec_of(const json& config) {
  return make_model_spec(ModelConfig(config, "config.json"));
}

TEST(ModelSpec, Llama) {
  const ModelSpec s = spec_of(llama_config());
  EXPECT_EQ(s.head_dim, 8);
  EXPECT_EQ(s.linear(kK).n, 16);
  EXPECT_EQ(s.linear(kO).k, 64);
  EXPECT_EQ(s.linear_name(1, s.id(kDown)), "model.layers.1.mlp.down_proj");
  EXPECT_EQ(s.lm_head, s.embedding);
  EXPECT_EQ(s.linear_ids().size(), 7u);
  EXPECT_EQ(s.sites.size(), 4u);
}

TEST(ModelSpec, EveryLinearIsReadByOneSite) {
  for (const char* model : {"mistral", "opt", "qwen2", "qwen3", "qwen3-mixed", "falcon-7b", "falcon-40b",
                            "falcon-sequential", "bloom"}) {
    const ModelSpec s = make_model_spec(tiny_config(model));
    for (LinearId id : s.linear_ids()) {
      int readers = 0;
      for (const Site& site : s.sites) readers += static_cast<int>(std::ranges::count(site.readers, id));
      EXPECT_EQ(readers, 1) << s.linears[id].name;
    }
  }
}

TEST(ModelSpec, ExplicitHeadDim) {
  json config = llama_config();
  config["head_dim"] = 16;
  const ModelSpec s = spec_of(config);
  EXPECT_EQ(s.linear(kQ).n, 128);
  EXPECT_EQ(s.linear(kO).k, 128);
}

TEST(ModelSpec, MistralHasASlidingWindow) {
  json config = llama_config();
  config["architectures"] = {"MistralForCausalLM"};
  config["model_type"] = "mistral";
  config["sliding_window"] = 16;
  EXPECT_EQ(spec_of(config).sliding_window, 16);
  config["sliding_window"] = nullptr;
  EXPECT_EQ(spec_of(config).sliding_window, 0);
}

TEST(ModelSpec, Opt) {
  const ModelSpec s = spec_of(opt_config());
  EXPECT_EQ(s.norm, NormKind::kLayer);
  EXPECT_EQ(s.positions, Positions::kLearned);
  EXPECT_EQ(s.position_offset, 2);
  EXPECT_FALSE(s.gated());
  EXPECT_EQ(s.lm_head, s.embedding);
  EXPECT_EQ(s.linear_name(1, s.id(kDown)), "model.decoder.layers.1.fc2");
  EXPECT_TRUE(s.linear(kDown).bias);
  json plain = opt_config();
  plain["enable_bias"] = false;
  plain["activation_function"] = "gelu";
  EXPECT_FALSE(spec_of(plain).linear(kDown).bias);
  EXPECT_EQ(spec_of(plain).activation, Activation::kGelu);
}

TEST(ModelSpec, Qwen) {
  const ModelSpec two = make_model_spec(tiny_config("qwen2"));
  EXPECT_TRUE(two.linear(kQ).bias && two.linear(kK).bias && two.linear(kV).bias);
  EXPECT_FALSE(two.linear(kO).bias || two.linear(kUp).bias || two.has(kQueryNorm));
  const ModelSpec three = make_model_spec(tiny_config("qwen3"));
  EXPECT_FALSE(three.linear(kQ).bias);
  EXPECT_EQ(three.norm_name(1, kKeyNorm), "model.layers.1.self_attn.k_norm");
  EXPECT_EQ(three.norm_width(kKeyNorm), 12);
  json windowed = tiny_config("qwen2").values();
  windowed.erase("layer_types");
  windowed.update({{"use_sliding_window", true}, {"sliding_window", 8}, {"max_window_layers", 0}});
  EXPECT_EQ(spec_of(windowed).sliding_window, 8);
  windowed["max_window_layers"] = 2;
  EXPECT_EQ(spec_of(windowed).sliding_window, 0) << "every layer sees everything";
  windowed["max_window_layers"] = 1;
  const ModelSpec mixed = spec_of(windowed);
  EXPECT_EQ(mixed.window(0), 0);
  EXPECT_EQ(mixed.window(1), 8);
}

TEST(ModelSpec, QwenNamesTheWindowOfEachLayer) {
  json config = tiny_config("qwen3").values();
  config.update({{"use_sliding_window", true}, {"sliding_window", 8}, {"max_window_layers", 2}});
  config["layer_types"] = {"sliding_attention", "full_attention"};
  EXPECT_EQ(spec_of(config).window(0), 8);
  EXPECT_EQ(spec_of(config).window(1), 0);
  json absent = config;
  absent.erase("sliding_window");
  EXPECT_EQ(spec_of(absent).window(0), 4096) << "as in Transformers";
  for (const json& types : {json{"sliding_attention"}, json{"full_attention", "chunked_attention"}}) {
    json wrong = config;
    wrong["layer_types"] = types;
    EXPECT_THROW(spec_of(wrong), Error) << types;
  }
  config["use_sliding_window"] = false;
  EXPECT_THROW(spec_of(config), Error) << "a layer asks for a window that there is not";
}

/// The defaults of Transformers' configuration classes.
TEST(ModelSpec, AbsentKeysHaveDefaults) {
  const ModelSpec llama = spec_of({{"model_type", "llama"}});
  EXPECT_EQ(llama.hidden_size, 4096);
  EXPECT_EQ(llama.intermediate_size, 11008);
  EXPECT_EQ(llama.n_kv_heads, 32);
  EXPECT_EQ(llama.max_positions, 2048);
  const ModelSpec mistral = spec_of({{"model_type", "mistral"}});
  EXPECT_EQ(mistral.n_kv_heads, 8);
  EXPECT_EQ(mistral.max_positions, 131072);
  EXPECT_EQ(mistral.sliding_window, 4096);
  EXPECT_EQ(spec_of({{"model_type", "mistral"}, {"num_key_value_heads", nullptr}}).n_kv_heads, 32);
  EXPECT_EQ(spec_of({{"model_type", "qwen3"}, {"hidden_size", 1024}}).head_dim, 128);
  EXPECT_EQ(spec_of({{"model_type", "qwen2"}}).max_positions, 32768);
  EXPECT_EQ(spec_of({{"model_type", "opt"}}).vocab_size, 50272);
}

TEST(ModelSpec, TheTypeDecidesNotTheClass) {
  json config = llama_config();
  for (const json& classes : {json(nullptr), json::array(), json{"LlamaModel"}, json{"MistralForCausalLM"}}) {
    config["architectures"] = classes;
    EXPECT_EQ(spec_of(config).family, "llama") << classes;
  }
  config.erase("model_type");
  EXPECT_EQ(spec_of(config).family, "mistral");
  config["architectures"] = {"LlamaForCausalLM"};
  EXPECT_EQ(spec_of(config).family, "llama");
  config["model_type"] = "granite";
  EXPECT_THROW(spec_of(config), Error) << "another computation under a known class";
}

TEST(ModelSpec, BiasesAreAnnouncedWhereTheFamilyHasThem) {
  const auto biased = [](const char* model_type) {
    const ModelSpec s = spec_of({{"model_type", model_type}, {"attention_bias", true}, {"mlp_bias", true}});
    return std::array{s.linear(kQ).bias, s.linear(kO).bias, s.linear(kUp).bias};
  };
  EXPECT_EQ(biased("llama"), (std::array{true, true, true}));
  EXPECT_EQ(biased("qwen3"), (std::array{true, true, false}));
  EXPECT_EQ(biased("qwen2"), (std::array{true, false, false}));
  EXPECT_EQ(biased("mistral"), (std::array{false, false, false}));
}

TEST(ModelSpec, HeadsThatAreRotatedInPartAreRefused) {
  json config = llama_config();
  config["partial_rotary_factor"] = 1.0;
  EXPECT_NO_THROW(spec_of(config));
  config["partial_rotary_factor"] = 0.5;
  EXPECT_THROW(spec_of(config), Error);
}

TEST(ModelSpec, Falcon) {
  const ModelSpec one_norm = make_model_spec(tiny_config("falcon-7b"));
  EXPECT_TRUE(one_norm.parallel);
  EXPECT_EQ(one_norm.n_kv_heads, 1);
  EXPECT_FALSE(one_norm.has(kMlpNorm));
  EXPECT_EQ(one_norm.sites[0].readers.size(), 4u);
  const ModelSpec two_norms = make_model_spec(tiny_config("falcon-40b"));
  EXPECT_EQ(two_norms.n_kv_heads, 2);
  EXPECT_EQ(two_norms.norm_name(0, kMlpNorm), "transformer.h.0.ln_mlp");
  EXPECT_EQ(two_norms.linear(kK).fused.rows, (4 + 2 * 2) * 8);
  json old_names = tiny_config("falcon-7b").values();
  for (const auto& [now, then] :
       {std::pair{"num_hidden_layers", "n_layer"}, {"num_attention_heads", "n_head"}}) {
    old_names[then] = old_names[now];
    old_names.erase(now);
  }
  old_names.update({{"architectures", {"RWForCausalLM"}}, {"model_type", "RefinedWebModel"}});
  EXPECT_EQ(spec_of(old_names).n_heads, 4);
  json alibi = tiny_config("falcon-7b").values();
  alibi["alibi"] = true;
  EXPECT_THROW(spec_of(alibi), Error);
  json no_kv_heads = tiny_config("falcon-40b").values();
  no_kv_heads["num_kv_heads"] = 0;
  EXPECT_THROW(spec_of(no_kv_heads), Error);
}

TEST(ModelSpec, Bloom) {
  const ModelSpec s = make_model_spec(tiny_config("bloom"));
  EXPECT_EQ(s.positions, Positions::kAlibi);
  const std::vector<float> slopes = {0.0625f, 0.00390625f, 0.25f};  // of two heads, then the first of four
  EXPECT_EQ(s.alibi_slopes, slopes);
  json four = tiny_config("bloom").values();
  four["n_head"] = 4;
  EXPECT_EQ(spec_of(four).alibi_slopes, (std::vector<float>{0.25f, 0.0625f, 0.015625f, 0.00390625f}));
}

/// The one line that opt-350m, or another variant, ends in.
std::string refusal(json config, const char* key, const json& value) {
  config[key] = value;
  try {
    spec_of(config);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(ModelSpec, RefusesOptVariants) {
  for (const auto& [key, value] : {std::pair<const char*, json>{"do_layer_norm_before", false},
                                   {"word_embed_proj_dim", 32},
                                   {"layer_norm_elementwise_affine", false},
                                   {"_remove_final_layer_norm", true},
                                   {"activation_function", "tanh"}}) {
    const std::string message = refusal(opt_config(), key, value);
    EXPECT_NE(message.find("is not supported"), std::string::npos) << key << ": " << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

TEST(ModelSpec, Refusals) {
  json unknown = llama_config();
  unknown["architectures"] = {"MambaForCausalLM"};
  try {
    spec_of(unknown);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("MambaForCausalLM"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("LlamaForCausalLM"), std::string::npos) << "lists the known ones";
  }
  json heads = llama_config();
  heads["num_key_value_heads"] = 3;
  EXPECT_THROW(spec_of(heads), Error);
  json activation = llama_config();
  activation["hidden_act"] = "gelu";
  EXPECT_THROW(spec_of(activation), Error);
  json half = llama_config();
  half["num_hidden_layers"] = 2.5;
  EXPECT_THROW(spec_of(half), Error);
  json odd = llama_config();
  odd["head_dim"] = 7;
  EXPECT_THROW(spec_of(odd), Error);
  json many_heads = tiny_config("bloom").values();
  many_heads["n_head"] = 1 << 30;
  EXPECT_THROW(spec_of(many_heads), Error);
}

TEST(CheckTensors, BundledModelFits) {
  const std::filesystem::path dir = std::filesystem::path(TESSERA_SOURCE_DIR) / "models" / "demo-llama";
  const ModelSpec s = make_model_spec(ModelConfig::load(dir));
  const Checkpoint checkpoint(dir);
  EXPECT_NO_THROW(check_tensors(s, checkpoint));
  ModelSpec deeper = s;
  deeper.n_layers += 1;
  EXPECT_THROW(check_tensors(deeper, checkpoint), Error);
  ModelSpec wider = s;
  wider.linear(kUp).n += 1;
  EXPECT_THROW(check_tensors(wider, checkpoint), Error);
}

/// Such as codes whose scales are elsewhere: they are no weights.
TEST(CheckTensors, ParametersAreFloats) {
  const ModelConfig config = tiny_config("mistral");
  const std::filesystem::path whole = std::filesystem::path(config.file()).parent_path(),
                              changed = std::filesystem::path(testing::TempDir()) / "integer_weights";
  const Checkpoint checkpoint(whole);
  const std::string up = "model.layers.0.mlp.up_proj.weight";
  std::vector<NamedTensor> tensors;
  for (const auto& [name, info] : checkpoint.tensors())
    tensors.push_back({name, name == up ? share(Tensor(DType::kU8, info.shape)) : checkpoint.at(name)});
  std::filesystem::create_directories(changed);
  write_safetensors(changed / "model.safetensors", tensors);
  const Checkpoint integers(changed);
  EXPECT_NE(
      error_of([&] { check_tensors(make_model_spec(config), integers); }).find(up + " is U8, expected F32"),
      std::string::npos);
  std::filesystem::remove_all(changed);
}

/// BLOOM is published without the prefix "transformer.".
TEST(CheckTensors, TheBareDecoderFits) {
  const ModelConfig config = tiny_config("bloom");
  const std::filesystem::path whole = std::filesystem::path(config.file()).parent_path(),
                              bare = std::filesystem::path(testing::TempDir()) / "bare_decoder";
  const Checkpoint checkpoint(whole);
  std::vector<NamedTensor> tensors;
  for (const auto& [name, info] : checkpoint.tensors())
    tensors.push_back({name.substr(name.find('.') + 1), checkpoint.at(name)});
  std::filesystem::create_directories(bare);
  write_safetensors(bare / "model.safetensors", tensors);
  const Checkpoint stripped(bare);
  EXPECT_THROW(check_tensors(make_model_spec(config), stripped), Error);
  EXPECT_NO_THROW(check_tensors(make_model_spec(config, stripped), stripped));
  EXPECT_NO_THROW(check_tensors(make_model_spec(config, checkpoint), checkpoint));
  std::filesystem::remove_all(bare);
}

/// An embedding that is also the head, and a head of its own beside it or in its place.
TEST(CheckTensors, AStoredHeadCountsWhereEmbeddingsAreTied) {
  ModelConfig config = tiny_config("mistral");
  json values = config.values();
  values["tie_word_embeddings"] = true;
  const ModelConfig tied(values, "config.json");
  const std::filesystem::path dir = std::filesystem::path(testing::TempDir()) / "stored_head";
  std::filesystem::create_directories(dir);
  const Checkpoint source(std::filesystem::path(config.file()).parent_path());
  const auto with = [&](const std::vector<NamedTensor>& outer) {
    std::vector<NamedTensor> tensors = outer;
    for (const auto& [name, info] : source.tensors()) {
      if (name != "lm_head.weight" && name != "model.embed_tokens.weight")
        tensors.push_back({name, source.at(name)});
    }
    write_safetensors(dir / "model.safetensors", tensors);
    const Checkpoint checkpoint(dir);
    const ModelSpec spec = make_model_spec(tied, checkpoint);
    EXPECT_NO_THROW(check_tensors(spec, checkpoint));
    return spec;
  };
  const TensorView embedding = source.at("model.embed_tokens.weight"), head = source.at("lm_head.weight");
  const ModelSpec other = with({{"model.embed_tokens.weight", embedding}, {"lm_head.weight", head}});
  EXPECT_FALSE(other.tied_embeddings);
  EXPECT_EQ(other.lm_head, "lm_head.weight");
  const ModelSpec same = with({{"model.embed_tokens.weight", embedding}, {"lm_head.weight", embedding}});
  EXPECT_TRUE(same.tied_embeddings);
  EXPECT_EQ(same.lm_head, same.embedding);
  const ModelSpec alone = with({{"lm_head.weight", head}});
  EXPECT_TRUE(alone.tied_embeddings);
  EXPECT_EQ(alone.embedding, "lm_head.weight");
  std::filesystem::remove_all(dir);
}

/// GGUF files carry the divisors of LLaMA 3's frequencies. The model's four have wavelengths of 6, 63, 628
/// and 6283 positions: with a context of 8192 the last one lies between kept (below 2048) and divided (above
/// 8192).
TEST(CheckTensors, RopeFactorsMustBeThoseOfLlama3) {
  const ModelConfig tiny = tiny_config("mistral");
  const Checkpoint source(std::filesystem::path(tiny.file()).parent_path());
  json values = tiny.values();
  values["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", 8},
                            {"low_freq_factor", 1},
                            {"high_freq_factor", 4},
                            {"original_max_position_embeddings", 8192}};
  const ModelSpec spec = make_model_spec(ModelConfig(values, "config.json"));
  const std::filesystem::path dir = std::filesystem::path(testing::TempDir()) / "rope_factors";
  std::filesystem::create_directories(dir);
  const auto check = [&](const std::vector<float>& factors) {
    const Tensor tensor = Tensor::from<float>(factors, {std::ssize(factors)});
    std::vector<NamedTensor> tensors = {{kRopeFactors, tensor.view()}};
    for (const auto& [name, info] : source.tensors()) tensors.push_back({name, source.at(name)});
    write_safetensors(dir / "model.safetensors", tensors);
    check_tensors(spec, Checkpoint(dir));
  };
  EXPECT_NO_THROW(check({1, 1, 1, 4.6814826f}));
  EXPECT_THROW(check({1, 1, 1, 4.69f}), Error);
  EXPECT_THROW(check({1, 1, 8, 8}), Error);
  EXPECT_THROW(check({1, 1, 1, std::nanf("")}), Error);
  EXPECT_THROW(check({1, 1, 1}), Error);
  std::filesystem::remove_all(dir);
}

TEST(CheckTensors, AQuantizedEmbeddingIsRefusedByName) {
  const ModelSpec spec = make_model_spec(tiny_config("mistral"));
  const std::filesystem::path dir = std::filesystem::path(testing::TempDir()) / "quantized_embedding";
  std::filesystem::create_directories(dir);
  const Tensor codes(DType::kI32, {1, 1});
  write_safetensors(dir / "model.safetensors", {{"model.embed_tokens.qweight", codes.view()}});
  try {
    check_tensors(spec, Checkpoint(dir));
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("model.embed_tokens is quantized"), std::string::npos) << e.what();
  }
  std::filesystem::remove_all(dir);
}

TEST(CheckTensors, ShardedModelFits) {
  const std::filesystem::path dir = shared_dir() / "models" / "lab-llama";
  TESSERA_REQUIRE_FILE(dir);
  EXPECT_NO_THROW(check_tensors(make_model_spec(ModelConfig::load(dir)), Checkpoint(dir)));
}

}  // namespace
}  // namespace tessera
