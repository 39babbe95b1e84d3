// Writing a model in another tool's format.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tessera/base/reporter.h"
#include "tessera/convert/source_model.h"
#include "tessera/format/foreign/writers.h"

namespace tessera {

struct ConversionOptions {
  std::filesystem::path in = {};   ///< a folder or a GGUF file
  std::filesystem::path out = {};  ///< a folder, or the GGUF file
  std::string target = {};         ///< as foreign::find_writer has it
  bool round = false;              ///< numbers that the target cannot hold are rounded; else they are refused
  int64_t group_size = 0;          ///< of the output; 0: that of every layer
};

/// What becomes of one linear.
struct LinearOutcome {
  SourceModel::Linear linear;
  const foreign::Writer* writer;  ///< the target's, but for an lm_head that it has no codes for
  foreign::WriteOptions options;
  std::string from, to;  ///< in short; equal for one that stays in floats
  foreign::Rounding rounding = {};
  std::string refusal = {};         ///< why the target cannot hold it; empty: it can
  nlohmann::json scheme = nullptr;  ///< what the target's settings say of it

  bool exact() const { return refusal.empty() && rounding.changed == 0; }
};

/// One model on its way. Every real weight stays what it is, as a number, or the linear is refused by name,
/// unless rounding is allowed; then the changes are counted.
class Conversion {
 public:
  /// Throws Error when the input cannot be read, when OUT is there already, or when the target has no place
  /// for such models.
  explicit Conversion(ConversionOptions options);

  /// Converts every linear and writes nothing.
  std::vector<LinearOutcome> survey(Reporter& reporter) const;
  /// Writes OUT, whole or not at all, with a record of what was done: conversion.json in a folder,
  /// OUT.conversion.json beside a file. One block is in memory at a time. Throws Error when the survey has a
  /// refusal, or the target's settings cannot describe these linears together.
  void write(const std::vector<LinearOutcome>& outcomes, Reporter& reporter) const;

  const SourceModel& model() const { return model_; }

 private:
  void check_target() const;
  LinearOutcome plan(const SourceModel::Linear& linear) const;

  ConversionOptions options_;
  SourceModel model_;
  const foreign::Writer* writer_;
  foreign::WriteOptions write_options_;
};

}  // namespace tessera
