// The table of writers.
#include "tessera/format/foreign/writers.h"

#include <algorithm>

#include "tessera/base/error.h"

namespace tessera::foreign {
namespace {

const std::vector<Writer>& writers() {
  static const std::vector<Writer> kWriters = {
      {"awq", "AutoAWQ's gemm layout: 4 bits, inputs in floats", {}, write_awq, awq_config, false, true},
      {"compressed-tensors",
       "for vLLM and Transformers: 4 or 8 bits, inputs in floats or in codes",
       {},
       write_compressed_tensors,
       compressed_tensors_config,
       false,
       true},
      {"gguf",
       "one file for llama.cpp; auto takes the smallest type that holds a layer",
       {"auto", "q4_0", "q4_1", "q4_k", "q8_0", "f16", "bf16", "f32"},
       write_gguf,
       nullptr},
      {"gptq",
       "AutoGPTQ and its heirs: 4 or 8 bits, inputs in floats",
       {},
       write_gptq,
       gptq_config,
       true,
       true},
      {"gptq_v2", "the same with zero points as they are", {}, write_gptq_v2, gptq_v2_config, true, true},
      {"hf", "a float model", {"f32", "f16", "bf16"}, write_floats, float_config},
      {"qqq", "QQQ: 4 bits, inputs in 8 bits", {}, write_qqq, qqq_config, true, true},
      {"tessera", "from the others to our own", {}, write_tessera, tessera_config}};
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
