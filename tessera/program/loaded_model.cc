// Loading, as all commands do it.
#include "tessera/program/loaded_model.h"

#include <map>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"
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

LoadedModel load_model(const std::string& dir, const DeviceOption& device) {
  LoadedModel loaded;
  loaded.model = Model::load(dir, device.backend());
  loaded.tokenizer = Tokenizer::load(dir);
  return loaded;
}

std::vector<int32_t> encode_file(const Tokenizer& tokenizer, const std::string& path) {
  const std::string text = read_file(path);
  if (text.empty()) throw Error("{}: the file is empty", path);
  return tokenizer.encode(text, /*add_special_tokens=*/true);
}

}  // namespace tessera
