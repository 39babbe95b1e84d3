// Loading, as all commands do it.
#include "tessera/program/loaded_model.h"

#include <map>

#include "tessera/arch/unread_tensors.h"
#include "tessera/kernels/backends.h"

namespace tessera {

void DeviceOption::add_to(CLI::App& command) {
  command.add_option("--device", name, "Where the model runs: " + device_names())->capture_default_str();
}

Backend& DeviceOption::backend() const {
  static std::map<std::string, std::unique_ptr<Backend>> backends;
  std::unique_ptr<Backend>& backend = backends[name];
  if (!backend) backend = make_backend(name);
  return *backend;
}

void KvOption::add_to(CLI::App& command) {
  command
      .add_option("--kv-bits", bits,
                  "Bits of cached keys and values: 32 (CPU alone), 16, 8 or 4 (default: what the model was "
                  "quantized for, or "
                  "16)")
      ->check(CLI::IsMember({4, 8, 16, 32}));
}

void KvOption::apply(Model& model) const {
  if (bits != 0) model.set_kv_format(kv_format_of_bits(bits, "--kv-bits"));
}

std::unique_ptr<Model> load_weights(const std::string& dir, const DeviceOption& device, Reporter& reporter) {
  auto model = Model::load(dir, device.backend());
  if (const std::string line = unread_tensors(model->spec(), Checkpoint(dir)); !line.empty())
    reporter.note(line);
  return model;
}

LoadedModel load_model(const std::string& dir, const DeviceOption& device, Reporter& reporter) {
  LoadedModel loaded;
  loaded.model = load_weights(dir, device, reporter);
  loaded.tokenizer = Tokenizer::load(dir);
  return loaded;
}

}  // namespace tessera
