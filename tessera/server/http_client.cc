// The client, over Boost.Beast.
#include "tessera/server/http_client.h"

#include <algorithm>
#include <array>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "tessera/base/error.h"

namespace tessera {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

class Exchange {
 public:
  Exchange(const HttpUrl& url, const HttpCall& call) : url_(url), call_(call) {}

  HttpReply run() {
    try {
      connect();
      send();
      receive();
    } catch (const boost::system::system_error& error) {
      if (!reply_.cancelled) throw Error("{}:{}: {}", url_.host, url_.port, error.code().message());
    }
    return std::move(reply_);
  }

 private:
  /// Starts an operation, and waits for its end or the caller's wish to cancel it.
  template <class Start>
  error_code wait(const Start& start) {
    std::optional<error_code> result;
    start([&result](error_code error, const auto&...) { result = error; });
    while (!result) {
      io_.restart();
      io_.run_for(std::chrono::milliseconds(50));
      if (result || reply_.cancelled || !call_.cancelled || !call_.cancelled()) continue;
      reply_.cancelled = true;
      socket_.close();
    }
    return *result;
  }

  static void check(error_code error) {
    if (error) throw boost::system::system_error(error);
  }

  void connect() {
    const auto endpoints = tcp::resolver(io_).resolve(url_.host, url_.port);
    check(wait([&](auto done) { asio::async_connect(socket_, endpoints, std::move(done)); }));
  }

  void send() {
    http::request<http::string_body> request(http::string_to_verb(call_.method), call_.path, 11, call_.body);
    request.set(http::field::host, fmt::format("{}:{}", url_.host, url_.port));
    if (!call_.authorization.empty()) request.set(http::field::authorization, call_.authorization);
    if (!call_.body.empty()) request.set(http::field::content_type, "application/json");
    request.prepare_payload();
    check(wait([&](auto done) { http::async_write(socket_, request, std::move(done)); }));
  }

  void receive() {
    beast::flat_buffer buffer;
    http::response_parser<http::buffer_body> parser;
    // Not boost::none, which Boost 1.74 takes for a limit of nothing where the reply tells its length.
    parser.body_limit(std::numeric_limits<uint64_t>::max());
    check(wait([&](auto done) { http::async_read_header(socket_, buffer, parser, std::move(done)); }));
    reply_.status = static_cast<int>(parser.get().result_int());
    std::array<char, 16384> piece{};
    while (!parser.is_done()) {
      auto& body = parser.get().body();
      body.data = piece.data();
      body.size = piece.size();
      const error_code error =
          wait([&](auto done) { http::async_read_some(socket_, buffer, parser, std::move(done)); });
      if (error != http::error::need_buffer) check(error);
      take({piece.data(), piece.size() - body.size});
    }
  }

  void take(std::string_view piece) {
    if (reply_.status == 200 && call_.on_piece) {
      call_.on_piece(piece);
    } else {
      reply_.body += piece;
    }
  }

  const HttpUrl& url_;
  const HttpCall& call_;
  asio::io_context io_;
  tcp::socket socket_{io_};
  HttpReply reply_;
};

}  // namespace

HttpUrl HttpUrl::parse(std::string_view text) {
  constexpr std::string_view kScheme = "http://";
  if (!text.starts_with(kScheme)) throw Error("{}: only addresses that begin with http:// are known", text);
  std::string_view rest = text.substr(kScheme.size());
  HttpUrl url;
  const size_t slash = std::min(rest.find('/'), rest.size());
  url.path = rest.substr(slash);
  while (url.path.ends_with('/')) url.path.pop_back();
  rest = rest.substr(0, slash);
  const bool bracketed = rest.starts_with('[');  // an IPv6 address
  const size_t colon = rest.find(':', bracketed ? std::min(rest.find(']'), rest.size()) : 0);
  url.host = rest.substr(0, colon);
  if (bracketed && url.host.ends_with(']')) url.host = url.host.substr(1, url.host.size() - 2);
  if (colon != std::string_view::npos) url.port = rest.substr(colon + 1);
  if (url.host.empty() || url.port.empty() || url.port.find_first_not_of("0123456789") != std::string::npos)
    throw Error("{}: this address names no host or a wrong port", text);
  return url;
}

HttpReply http_call(const HttpUrl& url, const HttpCall& call) {
  return Exchange(url, call).run();
}

}  // namespace tessera
