// Which files a GGUF model has.
#include "tessera/source/gguf_files.h"

#include "tessera/base/error.h"
#include "tessera/source/gguf_config.h"
#include "tessera/source/gguf_tokenizer.h"

namespace tessera {
namespace {

/// As a text file. Hostile strings may be no UTF-8.
template <class Json>
std::string text_of(const Json& value, const GgufModel& model) {
  try {
    return value.dump(2) + "\n";
  } catch (const nlohmann::json::type_error&) {
    throw Error("{}: a string of the tokenizer is not valid UTF-8; the file is damaged",
                model.files()[0].string());
  }
}

}  // namespace

std::map<std::string, std::function<std::string()>, std::less<>> gguf_files(
    std::shared_ptr<const GgufModel> model) {
  std::map<std::string, std::function<std::string()>, std::less<>> files;
  files["config.json"] = [model] { return text_of(gguf_config(*model), *model); };
  files["generation_config.json"] = [model] { return text_of(gguf_generation_config(*model), *model); };
  files["tokenizer_config.json"] = [model] { return text_of(gguf_tokenizer_config(*model), *model); };
  if (is_sentencepiece(*model)) {
    files["tokenizer.model"] = [model] { return gguf_tokenizer_model(*model); };
  } else {
    files["tokenizer.json"] = [model] { return text_of(gguf_tokenizer(*model), *model); };
  }
  return files;
}

}  // namespace tessera
