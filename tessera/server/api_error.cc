// ApiError.
#include "tessera/server/api_error.h"

namespace tessera {

using nlohmann::json;

std::string to_text(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

json ApiError::body() const {
  const auto or_null = [](const std::string& text) { return text.empty() ? json() : json(text); };
  return {
      {"error", {{"message", message}, {"type", type}, {"param", or_null(param)}, {"code", or_null(code)}}}};
}

HttpResponse ApiError::response() const {
  HttpResponse response{.status = status, .body = to_text(body())};
  if (retry_after) response.headers.emplace_back("Retry-After", std::to_string(*retry_after));
  return response;
}

ApiError ApiError::invalid(std::string param, std::string message, std::string code) {
  return {400, "invalid_request_error", std::move(code), std::move(message), std::move(param)};
}

ApiError ApiError::too_large(int status, std::string message) {
  return {status, "invalid_request_error", "too_large", std::move(message)};
}

ApiError ApiError::overloaded(int status, std::string code, std::string message, int retry_after) {
  ApiError error(status, status == 429 ? "rate_limit_error" : "server_error", std::move(code),
                 std::move(message));
  error.retry_after = retry_after;
  return error;
}

ApiError ApiError::internal(std::string code, std::string message) {
  return {500, "server_error", std::move(code), std::move(message)};
}

}  // namespace tessera
