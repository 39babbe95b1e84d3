// POST /v1/completions: its own fields and the shape of its answers.
#pragma once

#include <memory>
#include <vector>

#include "tessera/server/reply.h"

namespace tessera {

struct PromptRequest {
  GenerationRequest generation = {};
  std::vector<std::vector<int32_t>> prompts = {};
  size_t hidden = 0;  ///< ids at the beginning of each prompt that no answer shows
};

/// Tokenizes what is text. Throws ApiError.
PromptRequest read_completion(const RequestBody& body, const ServedModel& served);
std::unique_ptr<ReplyFormat> completion_format(const ServedModel& served);

/// Tokens of an answer for which a request names no limit.
inline constexpr int64_t kDefaultCompletionTokens = 256;

}  // namespace tessera
