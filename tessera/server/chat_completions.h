// POST /v1/chat/completions: its own fields and the shape of its answers.
#pragma once

#include <memory>

#include "tessera/server/completions.h"

namespace tessera {

/// The fields of a chat request without its messages. Throws ApiError.
GenerationRequest read_chat_generation(const RequestBody& body, const ServedModel& served);
/// The messages in the form that templates take: contents in parts of text are joined. Throws ApiError.
nlohmann::json read_messages(const RequestBody& body);
std::unique_ptr<ReplyFormat> chat_format(const ServedModel& served);

}  // namespace tessera
