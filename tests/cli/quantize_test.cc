// End to end: what tessera-quantize answers, reached through tessera as a user does, above all when the input
// is bad. Every refusal is one clear line and exit status 2, and leaves no half-written model.
#include <fmt/ranges.h>
#include <sentencepiece_trainer.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <thread>

#include "tessera/base/hash.h"
#include "tessera/model/test_llama.h"
#include "tests/cli/cli_fixture.h"

namespace tessera {
namespace {

// Two runs side by side, each waiting for its own threads, must not take each other's cores.
TEST_F(Cli, TheQuantizerSpinsForShortAlsoWhenTesseraStartsIt) {
  const auto spins = [&](const std::string& before, const std::string& arguments) {
    program_ = before + " " + TESSERA_BINARY;
    const std::string shown = run(arguments).err;  // once for each start
    const size_t last = shown.rfind("GOMP_SPINCOUNT = '");
    return last == std::string::npos ? -1
                                     : std::atoi(shown.c_str() + last + std::strlen("GOMP_SPINCOUNT = '"));
  };
  const std::string show = "env -u OMP_WAIT_POLICY OMP_DISPLAY_ENV=verbose";
  EXPECT_EQ(spins(show, "--version"), 10000);
  EXPECT_EQ(spins(show, "methods"), 1000);
  EXPECT_EQ(spins(show + " GOMP_SPINCOUNT=77", "methods"), 77);
}

TEST_F(Cli, HelpTeaches) {
  const Outcome quantize = run("quantize --help"), methods = run("methods --help");
  for (const Outcome& o : {quantize, methods}) {
    EXPECT_EQ(o.status, 0);
    EXPECT_NE(o.out.find("Example"), std::string::npos) << o.out;
  }
  EXPECT_NE(quantize.out.find("Usage: tessera quantize"), std::string::npos) << quantize.out;
  expect_refusal("quantize", {"required"});
}

TEST_F(Cli, RefusesDamagedModels) {
  const fs::path truncated = copy_model();
  fs::resize_file(truncated / "model.safetensors", fs::file_size(truncated / "model.safetensors") / 2);
  expect_refusal(quantize(truncated), {"model.safetensors", "outside the file"});

  const fs::path missing = changed_model([](std::string& name, Tensor&) {
    if (name == "model.layers.3.mlp.up_proj.weight") name = "elsewhere";
  });
  expect_refusal(quantize(missing), {"model.layers.3.mlp.up_proj.weight", "missing"});
  expect_refusal(fmt::format("generate {} --prompt x", missing.string()), {"up_proj"});

  const fs::path misshapen = changed_model([](std::string& name, Tensor& tensor) {
    if (name == "model.norm.weight") tensor = Tensor(DType::kBF16, {128});
  });
  expect_refusal(quantize(misshapen), {"model.norm.weight", "[128]", "[256]"});

  const fs::path not_finite = changed_model([](std::string& name, Tensor& tensor) {
    if (name == "model.layers.5.self_attn.q_proj.weight")
      tensor.as<BFloat16>()[7] = to_bfloat16(std::numeric_limits<float>::quiet_NaN());
  });
  expect_refusal(quantize(not_finite), {"model.layers.5.self_attn.q_proj.weight"});
}

TEST_F(Cli, RefusesBadConfigurations) {
  const fs::path model = copy_model();
  edit_config(model, [](json& c) { c["architectures"] = {"MambaForCausalLM"}; });
  expect_refusal(quantize(model), {"MambaForCausalLM", "LlamaForCausalLM"});
  fs::remove(model / "config.json");
  expect_refusal(quantize(model), {"config.json"});
  expect_refusal(quantize(dir_ / "nowhere"), {"nowhere"});
  expect_refusal(quantize(kDemo, "--group-size 96"), {"96", "128"});
  expect_refusal(quantize(kDemo, "--method magic"), {"magic", "qqq"});
  expect_refusal(quantize(kDemo, "--method qqq --set rtn.clip=mse"), {"changes nothing", "smooth", "gptq"});
  expect_refusal(quantize(kDemo, "--method qqq --set smooth.magic=1"), {"unknown option 'magic'"});
  write_file(dir_ / "recipe.json", R"({"name": "x", "passes": [{"pass": "rtn", "speed": 1}]})");
  expect_refusal(quantize(kDemo, "--recipe " + (dir_ / "recipe.json").string()), {"speed"});
}

TEST_F(Cli, RefusesShortCalibrationTexts) {
  write_file(dir_ / "short.txt", "Too short.");
  expect_refusal(fmt::format("quantize {} --calib {} -o {}", kDemo.string(), (dir_ / "short.txt").string(),
                             (dir_ / "out").string()),
                 {"short.txt"});
}

TEST_F(Cli, RefusesBadOutputs) {
  fs::create_directories(dir_ / "taken");
  const Outcome taken = run(fmt::format("-q quantize {} --calib {} --windows 2 --tokens 64 -o {}",
                                        kDemo.string(), text().string(), (dir_ / "taken").string()));
  EXPECT_EQ(taken.status, 2);
  EXPECT_NE(taken.err.find("--overwrite"), std::string::npos) << taken.err;
  write_file(dir_ / "file", "x");
  expect_refusal(fmt::format("quantize {} --calib {} --windows 2 --tokens 64 -o {}", kDemo.string(),
                             text().string(), (dir_ / "file" / "out").string()),
                 {"file"});
}

/// With the default calibration, which samples for long: no mistake may show behind that.
TEST_F(Cli, ChecksBeforeItSamples) {
  const std::string out = (dir_ / "out").string(), model = kDemo.string();
  const auto expect_early = [&](const std::string& arguments, const std::string& words) {
    const Outcome o = run("quantize " + arguments);
    EXPECT_EQ(o.status, 2) << arguments;
    EXPECT_NE(o.err.find(words), std::string::npos) << o.err;
    EXPECT_EQ(o.err.find("sampling"), std::string::npos) << o.err;
  };
  expect_early(fmt::format("{} -o {} --set smooth.magic=1", model, out), "unknown option 'magic'");
  expect_early(fmt::format("{} -o {} --group-size 96", model, out), "legal for every layer");
  expect_early(fmt::format("{} -o {} --device tpu", model, out), "device 'tpu'");
  expect_early(fmt::format("{} -o {} --eval {}/absent.txt", model, out, dir_.string()), "absent.txt");
  fs::create_directories(dir_ / "taken");
  expect_early(fmt::format("{} -o {}", model, (dir_ / "taken").string()), "--overwrite");
  expect_early(fmt::format("{} -o ''", model), "-o");
  for (const char* windows : {"100000000", "9000000000000000000"}) {
    for (const std::string& source : {std::string("self"), text().string()})
      expect_early(fmt::format("{} -o {} --calib {} --windows {}", model, out, source, windows), "use fewer");
  }
  expect_early(fmt::format("{} -o /proc/out", model), "/proc/out");

  const Outcome rounded = run(fmt::format("quantize {} --method rtn -o {}", model, out));
  EXPECT_EQ(rounded.status, 0) << rounded.err;
  EXPECT_EQ(rounded.err.find("sampling"), std::string::npos) << rounded.err;
  expect_early(fmt::format("{} -o {}/again", out, dir_.string()), "quantized already");
  const Outcome sampled =
      run(fmt::format("quantize {} --windows 2 --tokens 16 -o {}/qqq", model, dir_.string()));
  EXPECT_EQ(sampled.status, 0) << sampled.err;
  EXPECT_NE(sampled.err.find("sampling 2 windows of 16 tokens from the model, about "), std::string::npos)
      << sampled.err;
}

TEST_F(Cli, FullDiskLeavesNothingBehind) {
  const fs::path disk = dir_ / "disk";
  fs::create_directories(disk);
  if (std::system(fmt::format("mount -t tmpfs -o size=3m tmpfs {} 2>/dev/null", disk.string()).c_str()) !=
      0) {
    GTEST_SKIP() << "needs the right to mount a small tmpfs";
  }
  const Outcome o = run(fmt::format("-q quantize {} --calib {} --windows 2 --tokens 64 -o {}", kDemo.string(),
                                    text().string(), (disk / "out").string()));
  EXPECT_EQ(o.status, 2);
  EXPECT_FALSE(fs::exists(disk / "out"));
  EXPECT_EQ(std::ranges::count(o.err, '\n'), 1) << o.err;
  EXPECT_EQ(std::system(fmt::format("umount {}", disk.string()).c_str()), 0);
}

/// SHA-256 of every file but the report, which holds times.
std::map<std::string, std::string> fingerprints(const fs::path& dir) {
  std::map<std::string, std::string> out;
  for (const auto& entry : fs::directory_iterator(dir)) {
    if (entry.path().filename() != "report.json")
      out[entry.path().filename()] = sha256_hex(read_file(entry.path()));
  }
  return out;
}

TEST_F(Cli, KilledRunResumesToTheSameBytes) {
  const std::string common =
      fmt::format("quantize {} --method qqq --group-size 128 --calib {} --windows 4 --tokens 128",
                  kDemo.string(), text().string());
  ASSERT_EQ(run(fmt::format("-q {} -o {}", common, (dir_ / "whole").string())).status, 0);

  const fs::path out = dir_ / "out", partial = dir_ / "out.partial";
  bool interrupted = false;
  for (int attempt = 0; attempt < 5 && !interrupted; ++attempt) {  // kill it once two blocks are on disk
    fs::remove_all(out);
    fs::remove_all(partial);
    ASSERT_EQ(std::system(fmt::format("{} -q {} -o {} >/dev/null 2>&1 & echo $! > {}", TESSERA_BINARY, common,
                                      out.string(), (dir_ / "pid").string())
                              .c_str()),
              0);
    const auto shards = [&] {
      if (!fs::exists(partial)) return 0;
      int count = 0;
      for (const auto& entry : fs::directory_iterator(partial))
        count += entry.path().extension() == ".safetensors";
      return count;
    };
    while (shards() < 3 && !fs::exists(out)) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    [[maybe_unused]] const int killed =
        std::system(fmt::format("kill -9 $(cat {})", (dir_ / "pid").string()).c_str());
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    interrupted = fs::exists(partial) && !fs::exists(out);
  }
  ASSERT_TRUE(interrupted) << "the run was always faster than the signal";

  const Outcome refused = run(fmt::format("-q {} -o {}", common, out.string()));
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("--resume"), std::string::npos) << refused.err;
  const Outcome other = run(fmt::format("-q {} --seed 5 --resume -o {}", common, out.string()));
  EXPECT_EQ(other.status, 2) << "other calibration windows must not be mixed in";
  const Outcome resumed = run(fmt::format("-q {} --resume -o {}", common, out.string()));
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_FALSE(fs::exists(partial));
  EXPECT_EQ(fingerprints(out), fingerprints(dir_ / "whole"));
}

TEST_F(Cli, AnInterruptedRunSaysHowToGoOn) {
  const std::string out = (dir_ / "out").string(), err = (dir_ / "stderr").string();
  for (const int signal : {SIGINT, SIGTERM}) {
    write_file(err, "");
    const pid_t child = fork();  // a job of the shell in the background would ignore SIGINT
    if (child == 0) {
      if (freopen(err.c_str(), "w", stderr) && freopen("/dev/null", "w", stdout))
        execl(TESSERA_BINARY, "tessera", "quantize", kDemo.c_str(), "-o", out.c_str(), nullptr);
      _exit(127);
    }
    int status = 0;
    while (read_file(err).find("sampling") == std::string::npos && waitpid(child, &status, WNOHANG) == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    kill(child, signal);
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signal) << status;
    EXPECT_NE(read_file(err).find("\ntessera: interrupted; the same command with --resume goes on"),
              std::string::npos)
        << read_file(err);
    fs::remove_all(out + ".partial");
  }
}

TEST_F(Cli, NamesMayBeAnyBytes) {
  const fs::path out = dir_ / "caf\xe9\x01";
  const std::string words = fmt::format("--text {} --window 64 --max-windows 2", text().string());
  const Outcome quantized =
      run(fmt::format("-q --json quantize {} --method rtn -o '{}'", kDemo.string(), out.string()));
  ASSERT_EQ(quantized.status, 0) << quantized.err;
  EXPECT_TRUE(json::accept(quantized.out)) << quantized.out;
  EXPECT_EQ(run(fmt::format("-q --json verify '{}' {}", out.string(), words)).status, 0);
  EXPECT_EQ(run(fmt::format("-q quantize {} --method rtn -o '{}' --overwrite", kDemo.string(), out.string()))
                .status,
            0);
  const Outcome compared = run(fmt::format("-q --json compare {} --methods rtn {} --work '{}/work'",
                                           kDemo.string(), words, out.string()));
  ASSERT_EQ(compared.status, 0) << compared.err;
  EXPECT_EQ(json::parse(compared.out)["candidates"].size(), 1u);
}

TEST_F(Cli, SkipsMethodsThatCannotRun) {
  const fs::path model = dir_ / "narrow";
  TestLlama(json{{"hidden_size", 96},
                 {"num_attention_heads", 3},
                 {"num_key_value_heads", 3},
                 {"head_dim", 32},
                 {"intermediate_size", 96},
                 {"vocab_size", 4096}})
      .write(model);
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
    fs::copy_file(kDemo / file, model / file);
  const std::string common = fmt::format(
      "-q --json compare {} --calib {} --windows 2 --tokens 16 --text {} --window 16 --max-windows 2 --work "
      "{}",
      model.string(), text().string(), text().string(), (dir_ / "work").string());
  const Outcome o = run(common + " --methods rtn,dgq");
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(json::parse(o.out)["candidates"].size(), 1u);
  EXPECT_EQ(json::parse(o.out)["skipped"][0]["method"], "dgq");
  const Outcome grouped = run(common + " --methods rtn,dgq --group-size 32");
  ASSERT_EQ(grouped.status, 0) << grouped.err;
  EXPECT_EQ(json::parse(grouped.out)["candidates"][1]["model"], (dir_ / "work" / "dgq-g32").string());
  EXPECT_EQ(json::parse(grouped.out)["skipped"], json::array());
  const Outcome none = run(common + " --methods dgq");
  EXPECT_EQ(none.status, 2);
  EXPECT_NE(none.err.find("group size 128"), std::string::npos) << none.err;
}

// libsentencepiece and libtorch must not meet in one symbol scope; the second of these programs has both.
TEST_F(Cli, ReadsSentencePieceModelsBesideLibtorch) {
  const fs::path model = copy_model();
  fs::remove(model / "tokenizer.json");
  const std::string trainer = fmt::format(
      "--input={} --model_prefix={} --vocab_size=120 --model_type=bpe --hard_vocab_limit=false "
      "--minloglevel=2",
      text().string(), (model / "tokenizer").string());
  ASSERT_TRUE(sentencepiece::SentencePieceTrainer::Train(trainer).ok());
  const Outcome generated =
      run(fmt::format("-q generate {} --prompt 'The city' --max-tokens 4", model.string()));
  EXPECT_EQ(generated.status, 0) << generated.err;
  const Outcome quantized = run("-q " + quantize(model, "--method rtn"));
  EXPECT_EQ(quantized.status, 0) << quantized.err;
}

TEST_F(Cli, QuantizedModelWorksEverywhere) {
  const fs::path out = dir_ / "quantized";
  ASSERT_EQ(run(fmt::format("-q quantize {} --method rtn --calib {} --windows 2 --tokens 64 -o {}",
                            kDemo.string(), text().string(), out.string()))
                .status,
            0);

  const Outcome inspect = run(fmt::format("--json inspect {}", out.string()));
  ASSERT_EQ(inspect.status, 0) << inspect.err;
  const json info = json::parse(inspect.out);
  int quantized = 0;
  for (const json& l : info["linears"]) quantized += l["weight_bits"] == 4 && l["activation_bits"] == 8;
  EXPECT_EQ(quantized, 6 * 7) << "every linear of every block, and what really runs says so";

  const std::string generate =
      fmt::format("-q generate {} --prompt 'The history of' --max-tokens 12", out.string());
  const Outcome first = run(generate), second = run(generate);
  EXPECT_EQ(first.status, 0) << first.err;
  EXPECT_FALSE(first.out.empty());
  EXPECT_EQ(first.out, second.out) << "greedy is deterministic";
  const std::string sampled = generate + " --temperature 0.8 --top-k 40 --top-p 0.9 --seed 7";
  EXPECT_EQ(run(sampled).out, run(sampled).out);

  const Outcome compare = run(fmt::format("-q --json compare {} {} --text {} --window 64", kDemo.string(),
                                          out.string(), text().string()));
  ASSERT_EQ(compare.status, 0) << compare.err;
  EXPECT_TRUE(json::accept(compare.out)) << compare.out;

  const std::string words = fmt::format("--text {} --window 64", text().string());
  const auto perplexity = [&](int kv_bits) {
    const Outcome o =
        run(fmt::format("-q --json perplexity {} {} --kv-bits {}", out.string(), words, kv_bits));
    return o.status == 0 ? json::parse(o.out)[0]["perplexity"].get<double>() : 0;
  };
  const double exact = perplexity(16), int8 = perplexity(8), int4 = perplexity(4);
  EXPECT_NE(int8, exact);
  EXPECT_NEAR(int8, exact, 0.02 * exact);
  EXPECT_GT(std::abs(int4 - exact), std::abs(int8 - exact));

  const Outcome verify = run(fmt::format("-q --json verify {} {} --max-windows 4", out.string(), words));
  ASSERT_EQ(verify.status, 0) << verify.err;
  const json checked = json::parse(verify.out)[0];
  EXPECT_EQ(checked["layers"], 6 * 7);
  EXPECT_GT(checked["accumulators"], 0);
  EXPECT_EQ(checked["accumulators_differing"], 0);
  EXPECT_EQ(checked["outputs_off"], 0);
  EXPECT_NEAR(checked["engine_perplexity"].get<double>() / checked["simulated_perplexity"].get<double>(), 1,
              0.01);
  const Outcome table = run(fmt::format("-q verify {} {} --max-windows 4", out.string(), words));
  EXPECT_EQ(table.status, 0) << table.err;
  EXPECT_NE(table.out.find("Verdict: kernels, simulation and reference"), std::string::npos) << table.out;
  expect_refusal(fmt::format("verify {} {}", kDemo.string(), words), {"no quantized layers"});
  expect_refusal(
      fmt::format("quantize {} --calib {} -o {}/again", out.string(), text().string(), dir_.string()),
      {"quantized"});
}

TEST_F(Cli, ComparesMethodsItQuantizes) {
  const fs::path page = dir_ / "page.html", work = dir_ / "work";
  const std::string arguments = fmt::format(
      "--json compare {} --methods rtn,smoothquant --calib {} --windows 2 --tokens 64 --text {} "
      "--window 64 --max-windows 2 --work {} --html {}",
      kDemo.string(), text().string(), text().string(), work.string(), page.string());
  const Outcome first = run(arguments);
  ASSERT_EQ(first.status, 0) << first.err;
  const json result = json::parse(first.out);
  ASSERT_EQ(result["candidates"].size(), 2u);
  EXPECT_EQ(result["candidates"][1]["model"], (work / "smoothquant").string());
  EXPECT_NEAR(result["reference"]["bits"].get<double>(), 16, 0.01);
  EXPECT_NEAR(result["candidates"][0]["bits"].get<double>(), 4.2, 0.2);

  const std::string html = read_file(page);
  const size_t begin = html.find("const data = ") + 13;
  const json data = json::parse(html.substr(begin, html.find(";\n", begin) - begin));
  const json& stages = data["candidates"][1]["channel_absmax"][0];
  ASSERT_EQ(stages.size(), 2u);
  EXPECT_EQ(stages[0]["after"], "checkpoint");
  EXPECT_EQ(stages[1]["after"], "equalize");
  EXPECT_NE(stages[0]["sites"]["qkv"], stages[1]["sites"]["qkv"]);

  const Outcome second = run(arguments);
  EXPECT_NE(second.err.find("kept from an earlier run"), std::string::npos) << second.err;
  EXPECT_EQ(second.out, first.out);
  expect_refusal(fmt::format("compare {} --text {}", kDemo.string(), text().string()), {"--methods"});
}

/// Every part of a method can be left out or changed, and that changes the result.
TEST_F(Cli, SwitchesOfEveryPartWork) {
  const fs::path model = copy_model();
  edit_config(model, [](json& config) { config["num_hidden_layers"] = 1; });
  const std::string qllm = "qllm-w4a4+reassemble.tokens=64+reassemble.candidates=3+correct.epochs=9";
  const std::vector<std::vector<std::string>> variants = {
      {"qqq", "qqq+smooth=off", "qqq+gptq.clip=none", "qqq+gptq.act_order=false"},
      {"dgq", "dgq+equalize=off", "dgq+rtn.clip=none", "dgq+rtn.search=false", "dgq+rtn.scales=float",
       "dgq+rtn.scales=wrapped", "dgq+activation.scale=static", "dgq+weight.group_size=32"},
      {"quik", "quik+outliers.count=0", "quik+outliers.max_share=0.5", "quik+gptq.clip=none",
       "quik+activation.zero=real", "quik+gptq.sparse=all"},
      {qllm, qllm + "+reassemble=off", qllm + "+correct=off", qllm + "+correct.norms=false",
       qllm + "+reassemble.assembly=false", qllm + "+reassemble.theta=1.5", qllm + "+reassemble.virtual=true",
       qllm + "+kv_bits=4"}};
  for (const std::vector<std::string>& methods : variants) {
    const Outcome o = run(fmt::format(
        "-q --json compare {} --methods {} --calib {} --windows 2 --tokens 64 --text {} --window 64 "
        "--max-windows 2 --work {}",
        model.string(), fmt::join(methods, ","), text().string(), text().string(), (dir_ / "work").string()));
    ASSERT_EQ(o.status, 0) << o.err;
    const json report = json::parse(o.out);
    std::set<double> results;
    for (const json& candidate : report["candidates"])
      results.insert(candidate["perplexity"]["perplexity"].get<double>());
    EXPECT_EQ(results.size(), methods.size()) << "two variants give the same model:\n" << o.out;
  }
}

}  // namespace
}  // namespace tessera
