// POST /v1/chat/completions: its own fields and the shape of its answers.
#pragma once

#include <memory>

#include "tessera/server/completions.h"

namespace tessera {

/// Renders and tokenizes the messages. Throws ApiError.
PromptRequest read_chat(const RequestBody& body, const ServedModel& served);
/// The ids of the messages as the model's template writes them: contents in parts of text are joined,
/// "chat_template_kwargs" become variables. Throws ApiError, with the template's words when it refuses.
std::vector<int32_t> render_messages(const RequestBody& body, const ServedModel& served);
/// The messages as the template is given them.
ChatPrompt::Json read_messages(const RequestBody& body);
std::unique_ptr<ReplyFormat> chat_format(const ServedModel& served);

}  // namespace tessera
