// A GGUF file wherever the commands take a model: they answer as for the folder that it was made from.
#include <algorithm>
#include <array>
#include <cmath>

#include "tessera/format/checkpoint.h"
#include "tessera/source/test_gguf.h"
#include "tests/cli/cli_fixture.h"

namespace tessera {
namespace {

/// What GGUF calls the tensors of a LLaMA block.
constexpr std::array<std::pair<const char*, const char*>, 9> kBlockNames = {
    {{"input_layernorm", "attn_norm"},
     {"self_attn.q_proj", "attn_q"},
     {"self_attn.k_proj", "attn_k"},
     {"self_attn.v_proj", "attn_v"},
     {"self_attn.o_proj", "attn_output"},
     {"post_attention_layernorm", "ffn_norm"},
     {"mlp.gate_proj", "ffn_gate"},
     {"mlp.up_proj", "ffn_up"},
     {"mlp.down_proj", "ffn_down"}}};

class Gguf : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    write_demo();
  }

  /// The bundled model as a GGUF file that carries its own tokenizer.json; linears in bfloat16 as they are,
  /// or in Q4_0.
  void write_demo(bool in_codes = false) const {
    const json config = read_json(kDemo / "config.json");
    const Checkpoint checkpoint(kDemo);
    GgufBuilder b;
    const auto number = [&](const char* key, const char* name) {
      b.set(std::string("llama.") + key, config[name].get<uint32_t>());
    };
    b.set("general.architecture", "llama");
    number("context_length", "max_position_embeddings");
    number("embedding_length", "hidden_size");
    number("block_count", "num_hidden_layers");
    number("feed_forward_length", "intermediate_size");
    number("attention.head_count", "num_attention_heads");
    number("attention.head_count_kv", "num_key_value_heads");
    b.set("llama.attention.layer_norm_rms_epsilon", config["rms_norm_eps"].get<float>());
    b.set("llama.rope.freq_base", config["rope_theta"].get<float>());
    b.set("tokenizer.ggml.model", "gpt2")
        .set("tokenizer.huggingface.json", read_file(kDemo / "tokenizer.json"));
    std::vector<std::string> tokens(config["vocab_size"].get<size_t>(), "");
    tokens[1] = "<s>", tokens[2] = "</s>";
    b.set("tokenizer.ggml.tokens", tokens);
    b.set("tokenizer.ggml.bos_token_id", uint32_t{1}).set("tokenizer.ggml.eos_token_id", uint32_t{2});
    b.set("tokenizer.chat_template", "{% for m in messages %}{{ m.content }} {% endfor %}");

    add(b, "token_embd.weight", checkpoint.at("model.embed_tokens.weight"), 0);
    add(b, "output_norm.weight", checkpoint.at("model.norm.weight"), 0);
    const auto heads = config["num_attention_heads"].get<int64_t>();
    for (int64_t layer = 0; layer < config["num_hidden_layers"].get<int64_t>(); ++layer) {
      for (const auto& [name, gguf] : kBlockNames) {
        const bool rotated = std::string_view(gguf) == "attn_q" || std::string_view(gguf) == "attn_k";
        add(b, fmt::format("blk.{}.{}.weight", layer, gguf),
            checkpoint.at(fmt::format("model.layers.{}.{}.weight", layer, name)), rotated ? heads : 0,
            in_codes && tensor_is_matrix(gguf));
      }
    }
    b.write(gguf_);
  }

  static bool tensor_is_matrix(std::string_view gguf) { return !gguf.ends_with("norm"); }

  /// Q4_0 blocks of 32 values each: half a scale of either sign, then nibbles.
  static std::string q4_0_blocks(const std::vector<float>& values) {
    std::string blocks;
    for (auto x = values.begin(); x != values.end(); x += kQ4_0Group) {
      const float largest =
          *std::max_element(x, x + kQ4_0Group, [](float a, float b) { return std::abs(a) < std::abs(b); });
      const Half d = to_half(largest / -8);
      blocks += GgufBuilder::bytes_of(d.bits);
      const auto code = [&](int i) {
        return std::clamp(static_cast<int>(std::lround(x[i] / to_float(d))) + 8, 0, 15);
      };
      for (int i = 0; i < kQ4_0Group / 2; ++i)
        blocks += static_cast<char>(code(i) | code(i + kQ4_0Group / 2) << 4);
    }
    return blocks;
  }

  /// bfloat16 as it is, or in codes; rows of `heads` heads with their halves interleaved.
  static void add(GgufBuilder& b, const std::string& name, const TensorView& tensor, int64_t heads,
                  bool in_codes = false) {
    constexpr uint32_t kBf16 = 30, kQ4_0 = 2;
    const std::string bytes = in_codes
                                  ? q4_0_blocks(to_floats(tensor))
                                  : std::string(reinterpret_cast<const char*>(tensor.data), tensor.bytes());
    const size_t rows = static_cast<size_t>(tensor.shape[0]), row = bytes.size() / rows;
    std::string stored;
    for (size_t r = 0; r < rows; ++r) {
      size_t from = r;
      if (heads > 0) {
        const size_t head = rows / static_cast<size_t>(heads), place = r % head;
        from = r - place + place / 2 + place % 2 * (head / 2);
      }
      stored += bytes.substr(from * row, row);
    }
    b.add(name, tensor.shape, in_codes ? kQ4_0 : kBf16, stored);
  }

  /// Standard output of a command that succeeds.
  std::string answer(const std::string& arguments) {
    const Outcome o = run("-q " + arguments);
    EXPECT_EQ(o.status, 0) << arguments << "\n" << o.err;
    return o.out;
  }

  const fs::path gguf_ = fs::temp_directory_path() / fmt::format("tessera_demo_{}.gguf", getpid());
  ~Gguf() override { fs::remove(gguf_); }
};

TEST_F(Gguf, GeneratesAsTheFolderDoes) {
  const std::string rest = " --prompt 'The history of the city' --max-tokens 24";
  EXPECT_EQ(answer("generate " + gguf_.string() + rest), answer("generate " + kDemo.string() + rest));
  EXPECT_NE(answer("generate " + gguf_.string() + " --chat" + rest), "") << "with the file's chat template";
}

TEST_F(Gguf, ComparesToTheFolderWithoutADifference) {
  const json c = json::parse(answer(fmt::format("--json compare {} {} --text {} --window 64", kDemo.string(),
                                                gguf_.string(), text().string())));
  EXPECT_EQ(c["candidates"][0]["kl"]["mean"], 0.0) << c["candidates"][0];
  const json p = json::parse(answer(fmt::format("--json perplexity {} {} --text {} --window 64",
                                                kDemo.string(), gguf_.string(), text().string())));
  EXPECT_EQ(p[0]["perplexity"], p[1]["perplexity"]);
}

TEST_F(Gguf, IsInspected) {
  const json model = json::parse(answer("--json inspect " + gguf_.string()));
  EXPECT_EQ(model["family"], "llama");
  EXPECT_EQ(model["layers"], 6);
  EXPECT_EQ(model["stored_formats"], (json{{"BF16", 56}}));
  EXPECT_TRUE(model["tensors"].contains("model.layers.5.mlp.down_proj.weight"));
}

TEST_F(Gguf, CodesOfQ4_0AreKept) {
  write_demo(/*in_codes=*/true);
  const auto perplexity = [&](const std::string& model) {
    return json::parse(answer(fmt::format("--json perplexity {} --text {} --window 64 --max-windows 8", model,
                                          text().string())))[0]["perplexity"]
        .get<double>();
  };
  const json linears = json::parse(answer("--json inspect " + gguf_.string()))["linears"];
  EXPECT_NE(linears[0].dump().find("w4a16"), std::string::npos) << linears[0];
  answer("verify " + gguf_.string());
  const double expected = perplexity(gguf_.string());
  // Nothing is rounded on the way out: the same bits, and in floats nearly so.
  for (const char* target : {"tessera", "gptq_v2", "awq", "compressed-tensors"}) {
    const std::string out = (dir_ / target).string();
    answer(fmt::format("convert {} {} --to {}", gguf_.string(), out, target));
    EXPECT_EQ(perplexity(out), expected) << target;
  }
  answer(fmt::format("convert {} {} --to hf", gguf_.string(), (dir_ / "hf").string()));
  EXPECT_NEAR(perplexity((dir_ / "hf").string()) / expected, 1, 1e-4);
}

TEST_F(Gguf, TruncatedFilesAreRefused) {
  fs::resize_file(gguf_, fs::file_size(gguf_) / 2);
  expect_refusal("generate " + gguf_.string() + " --prompt x", {".gguf", "lie outside the file"});
  fs::resize_file(gguf_, 1000);
  expect_refusal("inspect " + gguf_.string(), {".gguf", "ends in the middle of its header"});
}

#ifdef TESSERA_WITH_QUANT
TEST_F(Gguf, QuantizesToTheWeightsOfTheFolder) {
  const fs::path from_gguf = dir_ / "from-gguf", from_folder = dir_ / "from-folder";
  const auto quantize_to = [&](const fs::path& model, const fs::path& out) {
    answer(fmt::format("quantize {} --method rtn --group-size 128 -o {}", model.string(), out.string()));
  };
  quantize_to(gguf_, from_gguf);
  quantize_to(kDemo, from_folder);
  for (const auto& shard : Checkpoint(from_folder).files())
    EXPECT_EQ(read_file(from_gguf / shard.filename()), read_file(shard)) << shard;
  // A folder of Hugging Face, whole: it runs, and needs the GGUF file no longer.
  for (const char* name :
       {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"})
    EXPECT_TRUE(fs::exists(from_gguf / name)) << name;
  // Of codes the quantizer gets the floats that other blocks give, too.
  write_demo(/*in_codes=*/true);
  const GgufModel in_codes(gguf_);
  const fs::path decoded = changed_model([&](const std::string& name, Tensor& tensor) {
    if (in_codes.has_codes(name)) tensor = Tensor(in_codes.read(name));
  });
  const fs::path from_codes = dir_ / "from-codes", from_decoded = dir_ / "from-decoded";
  quantize_to(gguf_, from_codes);
  quantize_to(decoded, from_decoded);
  for (const auto& shard : Checkpoint(from_decoded).files())
    EXPECT_EQ(read_file(from_codes / shard.filename()), read_file(shard)) << shard;
  fs::remove(gguf_);
  const std::string rest = " --prompt 'The history of the city' --max-tokens 24";
  EXPECT_EQ(answer("generate " + from_gguf.string() + rest),
            answer("generate " + from_folder.string() + rest));
}
#endif

}  // namespace
}  // namespace tessera
