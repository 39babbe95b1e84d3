// ServedModel.
#include "tessera/server/served_model.h"

#include <ctime>
#include <filesystem>

#include "tessera/base/hash.h"
#include "tessera/base/json_node.h"
#include "tessera/server/api_error.h"
#include "tessera/source/model_files.h"
#include "tessera/text/unicode.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

std::string folder_name(const fs::path& dir) {
  const fs::path path = fs::absolute(dir).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

/// Of everything that decides what the model answers, but for its weights: their names and kernels stand in.
std::string fingerprint_of(const Model& model) {
  std::string all = model.dir().string();
  for (const LinearInfo& linear : model.linears())
    all += linear.name + linear.kernel.kernel + linear.kernel.isa;
  return "fp_" + sha256_hex(all + std::to_string(static_cast<int>(model.kv_format()))).substr(0, 12);
}

}  // namespace

TokenNames::TokenNames(const Tokenizer& tokenizer)
    : tokenizer_(tokenizer),
      before_(tokenizer.encode("a", /*add_special_tokens=*/false)),
      before_text_(tokenizer.decode(before_, /*skip_special=*/false)) {}

std::optional<std::string> TokenNames::text(int32_t id) const {
  std::vector<int32_t> ids = before_;
  ids.push_back(id);
  const std::string all = tokenizer_.decode(ids, /*skip_special=*/false);
  if (!all.starts_with(before_text_) || all.ends_with(kReplacementUtf8)) return std::nullopt;
  return all.substr(before_text_.size());
}

std::string TokenNames::name(int32_t id) const {
  return text(id).value_or(fmt::format("token_id:{}", id));
}

std::optional<std::vector<int>> TokenNames::bytes(int32_t id) const {
  const auto utf8 = text(id);
  if (!utf8) return std::nullopt;
  std::vector<int> bytes;
  for (const char c : *utf8) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

SamplingDefaults read_sampling_defaults(const fs::path& model) {
  constexpr const char* kName = "generation_config.json";
  SamplingDefaults defaults;
  const ModelFiles files(model);
  if (!files.contains(kName)) return defaults;
  const nlohmann::json document = files.json(kName);
  const JsonNode root(document, files.where(kName));
  const auto number = [&](const char* key, float& value, double low, double high) {
    if (!root[key].is_null()) value = static_cast<float>(root[key].number(low, high));
  };
  number("temperature", defaults.temperature, 0, 100);
  number("top_p", defaults.top_p, 1e-6, 1);
  number("repetition_penalty", defaults.repetition_penalty, 1e-6, 100);
  if (!root["top_k"].is_null()) defaults.top_k = root["top_k"].integer<int64_t>(0);
  return defaults;
}

ServedModel::ServedModel(const Model& served, const Tokenizer& its_tokenizer,
                         const ServedModelOptions& chosen)
    : model(served),
      tokenizer(its_tokenizer),
      options(chosen),
      name(chosen.name),
      folder(folder_name(served.dir())),
      fingerprint(fingerprint_of(served)),
      max_length(chosen.max_length > 0 ? std::min(chosen.max_length, served.spec().max_positions)
                                       : served.spec().max_positions),
      created(std::time(nullptr)),
      defaults(read_sampling_defaults(served.dir())),
      tokens(its_tokenizer),
      chat(chosen.template_file.empty() ? ChatTemplate::load(served.dir())
                                        : ChatTemplate::load_file(chosen.template_file, served.dir())) {
  if (name.empty()) name = folder;
  const std::set<int32_t> ids = ends_of_text(served.dir(), its_tokenizer);
  ends.assign(ids.begin(), ids.end());
  if (options.bos_before_ids && !tokenizer.bos_id()) {
    throw Error("{}: the tokenizer has no BOS to put before ids", served.dir().string());
  }
}

bool ServedModel::is_called(const std::string& wanted) const {
  return options.any_name || wanted == name || wanted == folder || wanted == "default";
}

void ServedModel::check_name(const std::string& wanted) const {
  if (is_called(wanted)) return;
  throw ApiError(404, "not_found_error", "model_not_found",
                 fmt::format("the model '{}' is not served here; ask for '{}'", one_line(wanted), name),
                 "model");
}

}  // namespace tessera
