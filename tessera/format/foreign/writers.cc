// The table of writers.
#include "tessera/format/foreign/writers.h"

#include <algorithm>

#include "tessera/base/error.h"

namespace tessera::foreign {
namespace {

const std::vector<Writer>& writers() {
  static const std::vector<Writer> kWriters = {
      {.name = "awq",
       .summary = "AutoAWQ's gemm layout: 4 bits, inputs in floats",
       .write = write_awq,
       .config = awq_config,
       .float_head = true},
      {.name = "compressed-tensors",
       .summary = "for vLLM and Transformers: 4 or 8 bits, inputs in floats or in codes",
       .write = write_compressed_tensors,
       .config = compressed_tensors_config,
       .float_head = true},
      {.name = "gguf",
       .summary = "one file for llama.cpp; auto takes the smallest type that holds a layer",
       .variants = {"auto", "q4_0", "q4_1", "q4_k", "q8_0", "f16", "bf16", "f32"},
       .write = write_gguf},
      {.name = "gptq",
       .summary = "AutoGPTQ and its heirs: 4 or 8 bits, inputs in floats",
       .write = write_gptq,
       .config = gptq_config,
       .own_settings_file = true,
       .float_head = true},
      {.name = "gptq_v2",
       .summary = "the same with zero points as they are",
       .write = write_gptq_v2,
       .config = gptq_v2_config,
       .own_settings_file = true,
       .float_head = true},
      {.name = "hf",
       .summary = "a float model",
       .variants = {"f32", "f16", "bf16"},
       .write = write_floats,
       .config = float_config},
      {.name = "qqq",
       .summary = "QQQ: 4 bits, inputs in 8 bits",
       .write = write_qqq,
       .config = qqq_config,
       .own_settings_file = true,
       .float_head = true},
      {.name = "tessera",
       .summary = "from the others to our own",
       .write = write_tessera,
       .config = tessera_config}};
  return kWriters;
}

/// "hf[:f32|f16|bf16]"
std::string usage(const Writer& writer) {
  std::string text = writer.name;
  for (const std::string& variant : writer.variants)
    text += (&variant == &writer.variants.front() ? "[:" : "|") + variant;
  return writer.variants.empty() ? text : text + "]";
}

}  // namespace

std::pair<const Writer*, std::string> find_writer(const std::string& target) {
  const size_t colon = target.find(':');
  const std::string name = target.substr(0, colon);
  std::string known;
  for (const Writer& writer : writers()) {
    known += (known.empty() ? "" : ", ") + usage(writer);
    if (name != writer.name) continue;
    if (colon == std::string::npos) return {&writer, writer.variants.empty() ? "" : writer.variants[0]};
    const std::string variant = target.substr(colon + 1);
    if (std::ranges::find(writer.variants, variant) != writer.variants.end()) return {&writer, variant};
  }
  throw Error("'{}' is no format that tessera writes; these are: {}", target, known);
}

std::string list_writers() {
  std::string list;
  for (const Writer& writer : writers()) list += fmt::format("  {:<20} {}\n", writer.name, writer.summary);
  return list;
}

}  // namespace tessera::foreign
