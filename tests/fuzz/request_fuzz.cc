// Bodies of requests, through everything that comes before the engine.
#include "hostile_input.h"
#include "tessera/kernels/backends.h"
#include "tessera/server/chat_completions.h"
#include "tessera/server/completions.h"

namespace tessera {
namespace {

class Served {
 public:
  const ServedModel& model() const { return served_; }

 private:
  const std::filesystem::path source_ = TESSERA_SOURCE_DIR;
  std::unique_ptr<Backend> backend_ = make_backend("cpu");
  std::unique_ptr<Model> model_ = Model::load(source_ / "models/demo-llama", *backend_);
  std::unique_ptr<Tokenizer> tokenizer_ = Tokenizer::load(source_ / "models/demo-llama");
  ServedModel served_{*model_, *tokenizer_, {.template_file = source_ / "tests/chat/templates/turns.jinja"}};
};

}  // namespace

void read_hostile_input(std::string_view input) {
  static const Served served;
  const std::string text(input);
  try {
    const RequestBody body(text);
    for (const auto read : {read_completion, read_chat}) {
      try {
        read(body, served.model());
      } catch (const ApiError& error) {
        to_text(error.body());
      }
    }
  } catch (const ApiError&) {
  }
}

}  // namespace tessera
