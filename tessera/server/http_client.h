// A client of one request at a time, for the terminal and for tests.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace tessera {

/// An address such as "http://127.0.0.1:8000/v1", taken apart.
struct HttpUrl {
  std::string host, port = "80", path = {};  ///< path without a slash at its end

  /// Throws Error where it is none, or not of HTTP.
  static HttpUrl parse(std::string_view text);
};

struct HttpCall {
  std::string method = "GET", path = "/", body = {};
  std::string authorization = {};                       ///< empty: no header
  std::function<void(std::string_view)> on_piece = {};  ///< the body of a reply of status 200, as it comes
  std::function<bool()> cancelled = {};  ///< asked 20 times a second; yes closes the connection
};

struct HttpReply {
  int status = 0;         ///< 0: cancelled before it came
  std::string body = {};  ///< what did not go to on_piece
  bool cancelled = false;
};

/// Throws Error, naming the host, where there is no connection or it breaks.
HttpReply http_call(const HttpUrl& url, const HttpCall& call);

}  // namespace tessera
