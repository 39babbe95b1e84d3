// Models as the commands load them.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "tessera/base/reporter.h"
#include "tessera/kernels/backend.h"
#include "tessera/model/model.h"
#include "tessera/text/tokenizer.h"

namespace tessera {

/// The option --kv-bits.
struct KvOption {
  int bits = 0;  ///< 32, 16, 8 or 4; 0: what the checkpoint asks for

  void add_to(CLI::App& command);
  /// Sets the format of the model's caches.
  void apply(Model& model) const;
};

/// The option --device.
struct DeviceOption {
  std::string name = "cpu";

  void add_to(CLI::App& command);
  /// The backend of this process for the device, made on first use. Throws Error for an unknown name.
  Backend& backend() const;
};

/// A model with its tokenizer.
struct LoadedModel {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Model> model;
};

/// Reports tensors that are stored but no part of the model.
std::unique_ptr<Model> load_weights(const std::string& dir, const DeviceOption& device, Reporter& reporter);
LoadedModel load_model(const std::string& dir, const DeviceOption& device, Reporter& reporter);

}  // namespace tessera
