// tessera convert and the models that it makes: the same perplexity to the last digit.
#include "tests/cli/cli_fixture.h"

namespace tessera {
namespace {

class Convert : public Cli {
 protected:
  std::string path(const char* name) const { return (dir_ / name).string(); }

  json perplexity(const char* model) {
    const Outcome o = run(fmt::format("-q --json perplexity {} --text {} --window 128", path(model),
                                      (kDemo / "../../README.md").string()));
    EXPECT_EQ(o.status, 0) << o.err;
    return json::parse(o.out).at(0).at("perplexity");
  }

  void quantize(const char* out, const char* options) {
    const Outcome o =
        run(fmt::format("-q quantize {} --method rtn -o {} {}", kDemo.string(), path(out), options));
    ASSERT_EQ(o.status, 0) << o.err;
  }

  void convert(const char* in, const char* out, const std::string& options) {
    const Outcome o = run(fmt::format("-q convert {} {} {}", path(in), path(out), options));
    ASSERT_EQ(o.status, 0) << o.err;
  }
};

TEST_F(Convert, ExactConversionsKeepThePerplexity) {
  quantize("ours", "");
  convert("ours", "qqq", "--to qqq");
  EXPECT_EQ(perplexity("qqq"), perplexity("ours"));
  convert("qqq", "back", "--to tessera");
  EXPECT_EQ(perplexity("back"), perplexity("ours"));

  convert("ours", "gptq", "--to gptq");  // inputs in floats from here on
  const json expected = perplexity("gptq");
  for (const char* target : {"gptq_v2", "awq", "compressed-tensors", "tessera"}) {
    convert("gptq", target, std::string("--to ") + target);
    EXPECT_EQ(perplexity(target), expected) << target;
  }
}

/// Output scales of 7 bits and group scales of 4: float16 holds the products.
TEST_F(Convert, GroupedModelsOfOursAreHeldExactly) {
  quantize("g128", "--group-size 128");
  convert("g128", "ct", "--to compressed-tensors");
  EXPECT_EQ(perplexity("ct"), perplexity("g128"));
  convert("ct", "back", "--to tessera");
  EXPECT_EQ(read_file(dir_ / "back" / "model.safetensors"), read_file(dir_ / "g128" / "model.safetensors"));
  convert("g128", "v1", "--to gptq");
  quantize("zeros", "--group-size 64 --set weight.symmetric=false");
  for (const char* target : {"gptq_v2", "awq"}) {
    convert("g128", (std::string("g128-") + target).c_str(), std::string("--to ") + target);
    EXPECT_EQ(perplexity((std::string("g128-") + target).c_str()), perplexity("v1")) << target;
    convert("zeros", target, std::string("--to ") + target);
  }
  EXPECT_EQ(perplexity("awq"), perplexity("gptq_v2"));
}

TEST_F(Convert, DryRunsAndRefusalsWriteNothing) {
  quantize("ours", "--set rtn.scale_bits=24");
  const Outcome table =
      run(fmt::format("-q convert {} {} --to compressed-tensors --dry-run", path("ours"), path("out")));
  EXPECT_EQ(table.status, 0) << table.err;
  EXPECT_NE(table.out.find("model.layers.5.mlp.down_proj"), std::string::npos) << table.out;
  EXPECT_NE(table.out.find("0 of 42 linears exact, 42 refused; nothing was written"), std::string::npos)
      << table.out;
  EXPECT_FALSE(fs::exists(dir_ / "out"));
  expect_refusal(fmt::format("convert {} {} --to compressed-tensors", path("ours"), path("out")),
                 {"model.layers.0.self_attn.q_proj: the scale", "is no float16 number", "--round"});
  expect_refusal(fmt::format("convert {} {} --to gguf --round", path("ours"), path("out")),
                 {"llama.cpp has no name for this pre-tokenizer"});
  expect_refusal(fmt::format("convert {} {} --to gguf --round --exact", path("ours"), path("out")),
                 {"excludes"});
}

}  // namespace
}  // namespace tessera
