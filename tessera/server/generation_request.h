// The fields that completions and chat share.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tessera/base/json_node.h"
#include "tessera/base/reporter.h"
#include "tessera/engine/batch_engine.h"
#include "tessera/server/api_error.h"
#include "tessera/server/served_model.h"

namespace tessera {

/// The body of a request: an object whose complaints name the field.
class RequestBody {
 public:
  /// Throws ApiError 400 when `text` is no JSON object.
  explicit RequestBody(const std::string& text);
  RequestBody(const RequestBody&) = delete;
  RequestBody& operator=(const RequestBody&) = delete;

  /// Null where the field is absent.
  JsonNode operator[](const char* field) const { return root_[field]; }
  bool has(const char* field) const { return !root_[field].is_null(); }
  /// What `read` makes of a field; an Error becomes an ApiError 400 that names it.
  template <class Read>
  auto read(const char* field, const Read& read) const {
    try {
      return read(root_[field]);
    } catch (const Error& e) {
      throw ApiError::invalid(field, e.what());
    }
  }
  template <class T>
  T get_or(const char* field, T fallback) const {
    return read(field, [&](const JsonNode& node) { return node.get_or<T>(std::move(fallback)); });
  }
  std::vector<std::string> fields() const;

 private:
  nlohmann::json document_;
  JsonNode root_;
};

struct GenerationRequest {
  SamplingOptions sampling = {};
  LogitRules rules = {};
  LogitBias bias = {};
  std::optional<int64_t> max_tokens = {};
  std::vector<std::string> stops = {};
  int64_t n = 1;
  bool stream = false, include_usage = false, ignore_eos = false, skip_special = true;
  bool echo = false;                         ///< completions only
  std::optional<int64_t> top_logprobs = {};  ///< how many beside the token's own; absent: none at all
};

/// Reads the shared fields; what the model cannot do is refused. Throws ApiError.
GenerationRequest read_generation(const RequestBody& body, const ServedModel& served);

/// Throws ApiError 400 when the prompt, of a field of this name, is empty, holds an id outside the vocabulary
/// or is longer than the context.
void check_prompt(const std::vector<int32_t>& prompt, const ServedModel& served, const std::string& param);

/// How many tokens the answer to the prompt may have: what is asked for, as far as the context reaches.
int64_t answer_tokens(const GenerationRequest& request, size_t prompt_tokens, int64_t fallback,
                      const ServedModel& served);

/// Logs each field that no route knows once per process, through `log`.
void note_unknown_fields(const RequestBody& body, Reporter& log);

}  // namespace tessera
