// A model of this process as the one who answers.
#include <optional>

#include "tessera/cli/chat_partner.h"
#include "tessera/program/loaded_model.h"

namespace tessera {
namespace {

class LocalPartner : public ChatPartner {
 public:
  LocalPartner(const std::string& model_dir, const DeviceOption& device, const KvOption& kv,
               const std::string& template_file, Reporter& reporter)
      : name_(model_dir),
        template_(require_chat_template(model_dir, template_file, "--template")),
        loaded_(load_model(model_dir, device, reporter)) {
    kv.apply(*loaded_.model);
    generator_.emplace(*loaded_.model, *loaded_.tokenizer, /*keep_prompts=*/true);
  }

  std::string name() const override { return name_; }

  ChatAnswer answer(const ChatPrompt::Json& messages, const GenerateOptions& options,
                    const TextSink& sink) override {
    const std::string prompt = template_->render({.messages = messages});
    const Generation g =
        generator_->generate(loaded_.tokenizer->encode(prompt, /*add_special_tokens=*/false), options, sink);
    return {.text = g.text,
            .ended_by = g.interrupted ? "Ctrl-C" : std::string(name_of(g.finish)),
            .tokens = std::ssize(g.ids),
            .tokens_per_second = g.decode_rate()};
  }

 private:
  const std::string name_;
  const std::unique_ptr<ChatTemplate> template_;
  const LoadedModel loaded_;
  std::optional<Generator> generator_;
};

}  // namespace

std::unique_ptr<ChatPartner> local_partner(const std::string& model_dir, const DeviceOption& device,
                                           const KvOption& kv, const std::string& template_file,
                                           Reporter& reporter) {
  return std::make_unique<LocalPartner>(model_dir, device, kv, template_file, reporter);
}

}  // namespace tessera
