// End to end: the program tessera as a user meets it, without the one that quantizes, which stands in here as
// a script.
#include "tessera/model/test_quantized_llama.h"
#include "tests/cli/cli_fixture.h"

namespace tessera {
namespace {

TEST_F(Cli, HelpTeaches) {
  for (const char* command :
       {"perplexity", "compare", "verify", "generate", "chat", "serve", "inspect", "bench", "demo"}) {
    const Outcome o = run(fmt::format("{} --help", command));
    EXPECT_EQ(o.status, 0);
    EXPECT_NE(o.out.find("Example"), std::string::npos) << command;
  }
  const Outcome all = run("--help");
  EXPECT_EQ(all.status, 0);
  for (const char* command : {"quantize", "methods", "compare", "demo"}) {
    EXPECT_NE(all.out.find(command), std::string::npos) << command;
  }
  expect_refusal("generate", {"required"});
  EXPECT_EQ(run("frobnicate").status, 2);
}

TEST_F(Cli, RefusesBadTextsAndPrompts) {
  write_file(dir_ / "short.txt", "Too short.");
  expect_refusal(fmt::format("perplexity {} --text {}", kDemo.string(), (dir_ / "short.txt").string()),
                 {"short.txt"});
  expect_refusal(fmt::format("perplexity {} --text {}", kDemo.string(), (dir_ / "absent.txt").string()),
                 {"absent.txt"});
  expect_refusal(fmt::format("generate {} --prompt ''", kDemo.string()), {"prompt"});
  expect_refusal(fmt::format("generate {} --prompt \"$(yes river | head -n 2000)\"", kDemo.string()),
                 {"512"});
}

TEST_F(Cli, RefusesDamagedModels) {
  const fs::path truncated = copy_model();
  fs::resize_file(truncated / "model.safetensors", fs::file_size(truncated / "model.safetensors") / 2);
  expect_refusal(fmt::format("inspect {}", truncated.string()), {"model.safetensors", "outside the file"});
  const fs::path missing = changed_model([](std::string& name, Tensor&) {
    if (name == "model.layers.3.mlp.up_proj.weight") name = "elsewhere";
  });
  expect_refusal(fmt::format("generate {} --prompt x", missing.string()), {"up_proj"});
  const fs::path unknown = copy_model();
  edit_config(unknown, [](json& c) { c["architectures"] = {"MambaForCausalLM"}; });
  expect_refusal(fmt::format("inspect {}", unknown.string()), {"MambaForCausalLM", "LlamaForCausalLM"});
}

TEST_F(Cli, FloatModelsWork) {
  const Outcome inspect = run(fmt::format("--json inspect {}", kDemo.string()));
  ASSERT_EQ(inspect.status, 0) << inspect.err;
  EXPECT_EQ(json::parse(inspect.out)["linears"].size(), 6u * 7 + 1);

  const std::string generate =
      fmt::format("-q generate {} --prompt 'The city' --max-tokens 4", kDemo.string());
  const Outcome first = run(generate), second = run(generate);
  EXPECT_EQ(first.status, 0) << first.err;
  EXPECT_FALSE(first.out.empty());
  EXPECT_EQ(first.out, second.out) << "greedy is deterministic";

  const std::string words = fmt::format("--text {} --window 64 --max-windows 2", text().string());
  const Outcome itself = run(fmt::format("-q --json compare {0} {0} {1}", kDemo.string(), words));
  ASSERT_EQ(itself.status, 0) << itself.err;
  EXPECT_EQ(json::parse(itself.out)["candidates"][0]["kl"]["max"], 0);
  expect_refusal(fmt::format("verify {} {}", kDemo.string(), words), {"no quantized layers"});
}

TEST_F(Cli, EvalAsksQuestions) {
  const fs::path data = dir_ / "data";
  fs::create_directories(data / "piqa");
  write_file(data / "piqa" / "validation.jsonl",
             R"({"goal": "Go", "sol1": "home", "sol2": "home", "label": 0})"
             "\n"
             R"({"goal": "Go", "sol1": "home", "sol2": "home", "label": 1})"
             "\n");
  // Choices that are equal are equally likely: the first counts.
  const Outcome o =
      run(fmt::format("-q --json eval {} --tasks piqa --data {} --documents", kDemo.string(), data.string()));
  ASSERT_EQ(o.status, 0) << o.err;
  const json result = json::parse(o.out).at(0);
  EXPECT_EQ(result["documents"], 2);
  EXPECT_EQ(result["acc"], (json{{"value", 0.5}, {"standard_error", 0.5}}));
  EXPECT_EQ(result["log_likelihoods"][0][0], result["log_likelihoods"][1][1]);
  const std::string eval = fmt::format("eval {} --data {} ", kDemo.string(), data.string());
  expect_refusal(eval + "--tasks pica", {"pica", "piqa"});
  expect_refusal(eval + "--tasks boolq", {"boolq", "super_glue", "google/boolq"});
  expect_refusal(eval + "--tasks piqa --fewshot 1", {"train"});
  expect_refusal("eval " + kDemo.string(), {"--tasks", "--list"});
  EXPECT_NE(run("eval --list").out.find("hellaswag"), std::string::npos);
}

TEST_F(Cli, VerifyChecksKernelsByItself) {
  const fs::path model = dir_ / "model";
  quantized_test_llama(WeightFormat::kInt4, {}).write(model);
  const Outcome o = run(fmt::format("-q verify {}", model.string()));
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_NE(o.out.find("Not checked: the quantizer's simulation"), std::string::npos) << o.out;
  EXPECT_NE(o.out.find("Verdict: kernels and reference arithmetic agree in every layer."), std::string::npos)
      << o.out;
  const Outcome table = run(fmt::format("-q --json verify {}", model.string()));
  ASSERT_EQ(table.status, 0) << table.err;
  const json checked = json::parse(table.out)[0];
  EXPECT_EQ(checked["layers"], 2 * 7);
  EXPECT_GT(checked["outputs"], 0);
  EXPECT_EQ(checked["outputs_off"], 0);
}

TEST_F(Cli, NoticesModelsInTheWrongOrder) {
  const fs::path model = dir_ / "model";
  quantized_test_llama(WeightFormat::kInt4, {}).write(model);
  expect_refusal(fmt::format("compare {} {} --text {}", model.string(), kDemo.string(), text().string()),
                 {"is quantized", "name the float model", "first"});
}

/// The program in a folder of its own, and a PATH with nothing of ours.
class LoneCli : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    fs::create_directories(dir_ / "bin");
    fs::create_directories(dir_ / "path");
    fs::copy(TESSERA_BINARY, dir_ / "bin");
    program_ = (dir_ / "bin" / "tessera").string();
    setenv("PATH", ((dir_ / "path").string() + ":/usr/bin:/bin").c_str(), 1);
  }
  /// A quantizer that does what these lines of a shell script say.
  void install_quantizer(const fs::path& folder, const std::string& script) {
    const fs::path file = folder / "tessera-quantize";
    write_file(file, "#!/bin/sh\n" + script + "\n");
    fs::permissions(file, fs::perms::owner_all);
  }
  std::string compare() {
    return fmt::format("compare {} --methods rtn --text {} --window 64 --max-windows 2", kDemo.string(),
                       text().string());
  }
};

TEST_F(LoneCli, SaysHowToGetTheQuantizer) {
  for (const std::string& arguments :
       {std::string("quantize x -o y"), std::string("quantize --help"), std::string("methods"), compare(),
        fmt::format("demo {}", kDemo.string())}) {
    expect_refusal(arguments, {"tessera-quantize", "PATH", "./dev build"});
  }
  const fs::path model = dir_ / "model";
  quantized_test_llama(WeightFormat::kInt8, {}).write(model);
  const Outcome verify = run(fmt::format("verify {} --text {}", model.string(), text().string()));
  EXPECT_EQ(verify.status, 0) << verify.err;
  EXPECT_NE(verify.out.find("Not checked: the quantizer's simulation; the program tessera-quantize"),
            std::string::npos)
      << verify.out;
}

TEST_F(LoneCli, HandsTheCommandLineOver) {
  install_quantizer(dir_ / "path", "echo in PATH \"$@\"; exit 7");
  const Outcome o = run("--json --threads 2 quantize model -q --help");
  EXPECT_EQ(o.status, 7);
  EXPECT_EQ(o.out, "in PATH --json --threads 2 quantize model -q --help\n");
  install_quantizer(dir_ / "bin", "echo beside \"$@\"");
  EXPECT_EQ(run("methods").out, "beside methods\n") << "the one beside us comes first";
}

TEST_F(LoneCli, EndsAsTheQuantizerDid) {
  install_quantizer(dir_ / "bin", "echo 'tessera: no such method' >&2; exit 2");
  expect_refusal(compare(), {"no such method"});
  install_quantizer(dir_ / "bin", "kill -9 $$");
  const int status = run(compare()).status;
  EXPECT_TRUE(status == -1 || status == 128 + 9) << status;  // the shell may or may not stand between
}

TEST_F(LoneCli, ComparesWhatTheQuantizerMade) {
  install_quantizer(
      dir_ / "bin",
      fmt::format("echo \"$@\" >{}/arguments; echo '[{{\"method\": \"{}\", \"skipped\": \"\"}}, "
                  "{{\"method\": \"dgq\", \"skipped\": \"why\"}}]'",
                  dir_.string(), kDemo.filename().string()));
  const std::string command = fmt::format("{} --calib self --seed 3 --group-size 64 --work {}", compare(),
                                          kDemo.parent_path().string());
  const Outcome o = run("-q --json --threads 1 " + command);
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(json::parse(o.out)["candidates"][0]["model"], kDemo.string());
  EXPECT_EQ(json::parse(o.out)["skipped"], json::parse(R"([{"method": "dgq", "reason": "why"}])"));
  EXPECT_EQ(
      read_file(dir_ / "arguments"),
      fmt::format("--json --quiet --threads=1 each {} --methods=rtn --work={} --group-size=64 --calib=self "
                  "--seed=3\n",
                  kDemo.string(), kDemo.parent_path().string()));
  const Outcome table = run("-q " + command);
  EXPECT_NE(table.out.find("\ndgq: skipped: why\n"), std::string::npos) << table.out;
}

}  // namespace
}  // namespace tessera
