// tessera inspect: what a model folder or a safetensors file holds, and which kernel each layer will really
// run.
#include <fmt/format.h>

#include <map>

#include "tessera/base/cpu_info.h"
#include "tessera/base/error.h"
#include "tessera/chat/chat_template.h"
#include "tessera/cli/commands.h"
#include "tessera/cli/model_folder.h"
#include "tessera/convert/deploy_rules.h"
#include "tessera/program/loaded_model.h"
#include "tessera/program/terminal.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kExample =
    "Examples:\n"
    "  tessera inspect llama-qqq                       architecture, formats and kernels of a model folder\n"
    "  tessera inspect llama-qqq --tensors             every tensor, too\n"
    "  tessera inspect llama-qqq/model-00001-of-00033.safetensors\n"
    "  tessera inspect llama-ct --deploy vllm --tp 2   whether vLLM runs every layer on two GPUs, as far as "
    "is known";

constexpr int64_t kTileTokens[] = {1, 16, 64, 256, 2048};

using TensorMap = std::map<std::string, TensorInfo, std::less<>>;

void print_tensors(const TensorMap& tensors) {
  Table table({"tensor", "dtype", "shape", "bytes"});
  for (const auto& [name, info] : tensors) {
    table.add({name, std::string(name_of(info.dtype)), to_string(info.shape), std::to_string(info.bytes())});
  }
  fmt::print("{}", table.text());
}

json tensors_json(const TensorMap& tensors) {
  json out = json::object();
  for (const auto& [name, info] : tensors) {
    out[name] = {{"dtype", name_of(info.dtype)}, {"shape", info.shape}, {"bytes", info.bytes()}};
  }
  return out;
}

size_t total_bytes(const TensorMap& tensors) {
  size_t total = 0;
  for (const auto& [name, info] : tensors) total += info.bytes();
  return total;
}

void inspect_file(const std::string& path, const GlobalOptions& global) {
  const SafetensorsFile file(path);
  TensorMap tensors;
  for (const auto& [name, view] : file.tensors()) tensors[name] = {view.dtype, view.shape};
  if (global.json) {
    fmt::print("{}\n", json_text(tensors_json(tensors), 2));
    return;
  }
  print_tensors(tensors);
  fmt::print("{} tensors, {}\n", tensors.size(), format_bytes(total_bytes(tensors)));
}

/// Of a GGUF file; empty for a folder, whose tensors are what they look like.
std::map<std::string, int64_t> stored_formats(const fs::path& model) {
  if (!is_gguf(model)) return {};
  return GgufModel(model).stored_formats();
}

/// Tiles of the kernels, outputs x tokens, where the device has several; joined layers have one.
void print_tiles(const Model& model) {
  std::vector<std::string> header{"tile for M ="};
  for (int64_t tokens : kTileTokens) header.push_back(std::to_string(tokens));
  Table table(header);
  bool any = false;
  for (const LinearInfo& l : model.linears()) {
    std::vector<std::string> row{l.name};
    for (int64_t tokens : kTileTokens) row.push_back(l.linear->tile(tokens));
    any = any || !row.back().empty();
    table.add(row);
  }
  if (any) fmt::print("\n{}", table.text());
}

/// A conversation as the model's chat template writes it, or why it cannot; null without a template.
json template_example(const fs::path& model) {
  try {
    const std::unique_ptr<ChatTemplate> chat = ChatTemplate::load(model);
    if (!chat) return nullptr;
    ChatPrompt prompt;
    for (const auto& [role, text] :
         {std::pair("user", "Hello"), std::pair("assistant", "Good day."), std::pair("user", "Who are you?")})
      prompt.messages.push_back(chat_message(role, text));
    return {{"example", chat->render(prompt)}};
  } catch (const Error& error) {
    return {{"error", error.what()}};
  }
}

void print_template(const fs::path& model) {
  const json example = template_example(model);
  if (example.is_null()) return fmt::print("chat template: none\n");
  if (example.contains("error"))
    return fmt::print("chat template: {}\n", example["error"].get<std::string>());
  fmt::print("chat template, for example:\n{}\n\n", example["example"].get<std::string>());
}

void print_model(const Model& model, const Checkpoint& checkpoint, const std::string& backend) {
  const ModelSpec& s = model.spec();
  fmt::print(
      "{}: {} layers, hidden {}, MLP {}, {} heads / {} key-value heads of {}, vocabulary {}, context {}\n",
      s.family, s.n_layers, s.hidden_size, s.intermediate_size, s.n_heads, s.n_kv_heads, s.head_dim,
      s.vocab_size, s.max_positions);
  fmt::print("{} tensors, {} on disk{}\n", checkpoint.tensors().size(),
             format_bytes(weight_bytes(checkpoint.dir())), s.tied_embeddings ? ", embeddings tied" : "");
  for (const auto& [format, tensors] : stored_formats(checkpoint.dir()))
    fmt::print("stored as {}: {} tensors\n", format, tensors);
  print_template(checkpoint.dir());
  fmt::print("runs on: {}\n\n", backend);
  Table table({"layer", "outputs x inputs", "bits W/A", "kernel", "ISA", "size"});
  for (const LinearInfo& l : model.linears()) {
    table.add({l.name, fmt::format("{} x {}", l.n, l.k),
               fmt::format("{}/{}", l.kernel.weight_bits, l.kernel.activation_bits), l.kernel.kernel,
               l.kernel.isa, format_bytes(l.bytes)});
  }
  fmt::print("{}", table.text());
  print_tiles(model);
}

json model_json(const Model& model, const Checkpoint& checkpoint, const std::string& backend) {
  const ModelSpec& s = model.spec();
  json linears = json::array();
  for (const LinearInfo& l : model.linears()) {
    linears.push_back({{"name", l.name},
                       {"n", l.n},
                       {"k", l.k},
                       {"bytes", l.bytes},
                       {"weight_bits", l.kernel.weight_bits},
                       {"activation_bits", l.kernel.activation_bits},
                       {"kernel", l.kernel.kernel},
                       {"isa", l.kernel.isa}});
    for (int64_t tokens : kTileTokens) {
      if (const std::string tile = l.linear->tile(tokens); !tile.empty())
        linears.back()["tiles"][std::to_string(tokens)] = tile;
    }
  }
  return {{"family", s.family},
          {"layers", s.n_layers},
          {"hidden_size", s.hidden_size},
          {"intermediate_size", s.intermediate_size},
          {"heads", s.n_heads},
          {"kv_heads", s.n_kv_heads},
          {"head_dim", s.head_dim},
          {"vocab_size", s.vocab_size},
          {"max_positions", s.max_positions},
          {"tied_embeddings", s.tied_embeddings},
          {"backend", backend},
          {"chat_template", template_example(checkpoint.dir())},
          {"bytes", total_bytes(checkpoint.tensors())},
          {"stored_formats", stored_formats(checkpoint.dir())},
          {"linears", linears},
          {"tensors", tensors_json(checkpoint.tensors())}};
}

struct Options {
  std::string path;
  DeviceOption device;
  bool tensors = false;
  std::string engine;  ///< another program that is to run the model
  int64_t ranks = 1;
};

void print_deployment(const Options& o, const GlobalOptions& global) {
  const std::vector<DeployVerdict> verdicts = check_deployment(SourceModel(o.path), o.engine, o.ranks);
  if (global.json) {
    json out = json::array();
    for (const DeployVerdict& v : verdicts) {
      out.push_back({{"name", v.linear.name},
                     {"answer", name_of(v.answer)},
                     {"reason", v.reason},
                     {"source", v.source}});
    }
    fmt::print("{}\n", json_text(out, 2));
    return;
  }
  Table table({"layer", "outputs x inputs", o.engine, "reason", "source of the rule"});
  for (const DeployVerdict& v : verdicts) {
    table.add({v.linear.name, fmt::format("{} x {}", v.linear.n, v.linear.k), std::string(name_of(v.answer)),
               v.reason, v.source});
  }
  fmt::print("{}", table.text());
}

void inspect_model(const Options& o, const GlobalOptions& global) {
  const Checkpoint checkpoint(o.path);
  TerminalReporter reporter(global.quiet);
  const std::unique_ptr<Model> model = load_weights(o.path, o.device, reporter);
  const std::string backend = fmt::format("{} ({})", o.device.backend().name(), cpu_info().model);
  if (global.json) {
    fmt::print("{}\n", json_text(model_json(*model, checkpoint, backend), 2));
    return;
  }
  print_model(*model, checkpoint, backend);
  if (o.tensors) {
    fmt::print("\n");
    print_tensors(checkpoint.tensors());
  }
}

}  // namespace

void add_inspect(CLI::App& app, const GlobalOptions& global) {
  CLI::App* command =
      add_command(app, "inspect", "Show architecture, tensors, formats and the kernels that will run");
  auto o = std::make_shared<Options>();
  command->footer(kExample);
  command->add_option("path", o->path, "Model folder, GGUF file or .safetensors file")->required();
  command->add_flag("--tensors", o->tensors, "List every tensor of the folder");
  CLI::Option* deploy = command->add_option("--deploy", o->engine, "Say which layers this engine runs")
                            ->check(CLI::IsMember(deploy_engines()));
  command->add_option("--tp", o->ranks, "GPUs in tensor parallelism")
      ->check(CLI::Range(1, 1024))
      ->needs(deploy);
  o->device.add_to(*command);
  command->callback([o, &global] {
    if (!fs::exists(o->path)) throw Error("{}: no such file or folder", o->path);
    if (!o->engine.empty()) return print_deployment(*o, global);
    if (fs::is_directory(o->path) || is_gguf(o->path)) {
      inspect_model(*o, global);
    } else {
      inspect_file(o->path, global);
    }
  });
}

}  // namespace tessera
