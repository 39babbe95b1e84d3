// What a client is told when its request is refused or fails.
#pragma once

#include <fmt/format.h>

#include <exception>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "tessera/server/http.h"

namespace tessera {

/// JSON as answers hold it; what is not UTF-8 becomes U+FFFD.
std::string to_text(const nlohmann::json& value);

/// An error in the shape of OpenAI's API.
struct ApiError : std::exception {
  int status = 500;
  std::string type, code, param, message;  ///< code and param may be empty
  std::optional<int> retry_after = {};     ///< seconds

  ApiError(int http_status, std::string error_type, std::string error_code, std::string text,
           std::string parameter = "")
      : status(http_status),
        type(std::move(error_type)),
        code(std::move(error_code)),
        param(std::move(parameter)),
        message(std::move(text)) {}

  const char* what() const noexcept override { return message.c_str(); }
  nlohmann::json body() const;
  HttpResponse response() const;

  // The kinds that occur in several places.
  static ApiError invalid(std::string param, std::string message, std::string code = "invalid_value");
  static ApiError too_large(int status, std::string message);
  static ApiError overloaded(int status, std::string code, std::string message, int retry_after);
  static ApiError internal(std::string code, std::string message);
};

}  // namespace tessera
