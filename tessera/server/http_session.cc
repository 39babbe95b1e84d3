// Reading requests and writing answers.
#include "tessera/server/http_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

namespace tessera {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr size_t kReadAhead = size_t{64} << 10;  // bytes of further requests that are kept during an answer
constexpr std::chrono::milliseconds kLinger{2'000};

std::string status_line(unsigned version, int status) {
  return fmt::format("HTTP/1.{} {} {}\r\n", version % 10, status,
                     std::string(http::obsolete_reason(static_cast<http::status>(status))));
}

/// Whether what came is no HTTP, rather than not all of it.
bool is_malformed(error_code error) {
  return error.category() == http::make_error_code(http::error::bad_method).category() &&
         error != http::error::end_of_stream && error != http::error::partial_message;
}

/// What the client calls its request, when that fits into a header and a log, or a name of ours.
std::string request_id(beast::string_view wanted) {
  constexpr size_t kLongest = 128;
  const auto plain = [](char c) { return c > ' ' && c < 0x7f; };
  if (!wanted.empty() && wanted.size() <= kLongest && std::all_of(wanted.begin(), wanted.end(), plain)) {
    return std::string(wanted);
  }
  static thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("{:016x}", random());
}

}  // namespace

HttpSession::HttpSession(tcp::socket socket, HttpShared& server)
    : server_(server), socket_(std::move(socket)), timer_(socket_.get_executor()) {
  error_code ignored;
  peer_ = socket_.remote_endpoint(ignored).address().to_string();
  const HttpOptions& options = server_.options;
  const size_t of_peer = server_.peers.enter(peer_);
  one_too_many_ = ++server_.connections > options.max_connections ||
                  (options.max_peer_connections > 0 && of_peer > options.max_peer_connections);
}

HttpSession::~HttpSession() {
  server_.peers.leave(peer_);
  --server_.connections;
}

void HttpSession::start() {
  if (one_too_many_) return refuse(ApiError::overloaded(503, "connections", "too many connections", 1));
  error_code ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
  read_header();
}

void HttpSession::set_timer(Milliseconds time, void (HttpSession::*action)()) {
  timer_.expires_after(time);
  const auto due = timer_.expiry();
  timer_.async_wait([self = shared_from_this(), due, action](error_code error) {
    if (!error && self->timer_.expiry() == due && !self->closed_) (self.get()->*action)();
  });
}

void HttpSession::read_header() {
  if (closed_) return;
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(server_.options.max_header));
  parser_->body_limit(server_.options.max_body);
  http::async_read_header(socket_, buffer_, *parser_,
                          [self = shared_from_this()](error_code error, size_t) { self->on_header(error); });
  set_timer(server_.options.header_timeout, &HttpSession::abandon);
}

void HttpSession::on_header(error_code error) {
  const HttpOptions& options = server_.options;
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return refuse(
        ApiError::too_large(431, fmt::format("the header is longer than {} bytes", options.max_header)));
  }
  if (error == http::error::body_limit) {
    return refuse(
        ApiError::too_large(413, fmt::format("the body is longer than {} bytes", options.max_body)));
  }
  if (error) return refuse_or_abandon(error);
  if (parser_->get().target().size() > options.max_target) {
    return refuse(
        ApiError::too_large(414, fmt::format("the URL is longer than {} bytes", options.max_target)));
  }
  version_ = parser_->get().version();
  if (!beast::iequals(parser_->get()[http::field::expect], "100-continue")) return read_body();
  static const std::string kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  asio::async_write(socket_, asio::buffer(kContinue), [self = shared_from_this()](error_code failed, size_t) {
    failed ? self->abandon() : self->read_body();
  });
}

void HttpSession::read_body() {
  http::async_read(socket_, buffer_, *parser_, [self = shared_from_this()](error_code error, size_t) {
    if (error == http::error::body_limit) {
      return self->refuse(ApiError::too_large(
          413, fmt::format("the body is longer than {} bytes", self->server_.options.max_body)));
    }
    error ? self->refuse_or_abandon(error) : self->dispatch();
  });
  set_timer(server_.options.body_timeout, &HttpSession::abandon);
}

void HttpSession::dispatch() {
  timer_.cancel();
  auto message = parser_->release();
  keep_alive_ = message.keep_alive();
  const std::string target(message.target());
  request_id_ = request_id(message["X-Request-Id"]);
  HttpRequest request{.method = std::string(message.method_string()),
                      .path = target.substr(0, target.find('?')),
                      .id = request_id_,
                      .authorization = std::string(message[http::field::authorization]),
                      .body = std::move(message.body()),
                      .peer = peer_};
  answering_ = true;
  complete_ = events_began_ = false;
  ++server_.answering;
  watch();
  server_.handler(std::move(request), shared_from_this());
}

void HttpSession::watch() {
  if (watching_ || closed_ || !answering_ || buffer_.size() >= kReadAhead) return;
  watching_ = true;
  socket_.async_read_some(buffer_.prepare(4096), [self = shared_from_this()](error_code error, size_t bytes) {
    self->watching_ = false;
    self->buffer_.commit(bytes);
    if (error && error != asio::error::operation_aborted) return self->abandon();
    if (self->ending_) return self->discard();
    self->answering_ ? self->watch() : self->read_header();
  });
}

void HttpSession::on_gone(std::function<void()> call) {
  // What is kept may hold this connection: a closed one would never let go of it.
  if (closed_) return call();
  on_gone_ = std::move(call);
}

std::string HttpSession::head_of(const HttpResponse& response, const std::string& framing) const {
  std::string head = status_line(version_, response.status);
  head += fmt::format("Content-Type: {}\r\n{}Connection: {}\r\n", response.content_type, framing,
                      keep_alive_ ? "keep-alive" : "close");
  if (const std::string& origin = server_.options.cors_origin; !origin.empty()) {
    head += fmt::format("Access-Control-Allow-Origin: {}\r\nAccess-Control-Allow-Headers: *\r\n", origin);
  }
  if (!request_id_.empty()) head += fmt::format("X-Request-Id: {}\r\n", request_id_);
  for (const auto& [name, value] : response.headers) head += fmt::format("{}: {}\r\n", name, value);
  return head + "\r\n";
}

void HttpSession::respond(HttpResponse response) {
  if (closed_ || !answering_ || complete_) return;
  keep_alive_ = keep_alive_ && !response.close && !server_.draining;
  complete_ = true;
  send(head_of(response, fmt::format("Content-Length: {}\r\n", response.body.size())) + response.body);
}

void HttpSession::expect_events(HttpResponse head) {
  events_head_ = std::move(head);
  set_timer(server_.options.sign_of_life, &HttpSession::sign_of_life);
}

void HttpSession::begin_events() {
  if (std::exchange(events_began_, true)) return;
  // HTTP/1.0 knows no chunks: there the end of the connection ends the answer.
  if (version_ < 11) keep_alive_ = false;
  send(head_of(*events_head_, version_ < 11 ? "" : "Transfer-Encoding: chunked\r\n"));
}

void HttpSession::send_events(std::string events) {
  if (closed_ || !answering_ || complete_ || events.empty()) return;
  begin_events();
  send(version_ < 11 ? std::move(events) : fmt::format("{:x}\r\n{}\r\n", events.size(), events));
}

void HttpSession::sign_of_life() {
  send_events(": ping\n\n");
}

void HttpSession::end_events(bool close) {
  if (closed_ || !answering_ || complete_) return;
  begin_events();
  keep_alive_ = keep_alive_ && !close && !server_.draining;
  complete_ = true;
  send(version_ < 11 ? "" : "0\r\n\r\n");
}

void HttpSession::send(std::string bytes) {
  pending_ += bytes;
  if (!writing_) write_some();
}

void HttpSession::write_some() {
  if (closed_) return;
  if (written_ == in_flight_.size()) {
    in_flight_ = std::exchange(pending_, {});
    written_ = 0;
    if (in_flight_.empty()) return written_all();
  }
  writing_ = true;
  socket_.async_write_some(asio::buffer(in_flight_.data() + written_, in_flight_.size() - written_),
                           [self = shared_from_this()](error_code error, size_t bytes) {
                             self->writing_ = false;
                             if (error) return self->abandon();
                             self->written_ += bytes;
                             self->write_some();
                           });
  set_timer(server_.options.write_timeout, &HttpSession::abandon);
}

void HttpSession::written_all() {
  if (complete_) return answered();
  set_timer(server_.options.sign_of_life, &HttpSession::sign_of_life);
}

void HttpSession::answered() {
  if (std::exchange(answering_, false)) --server_.answering;
  on_gone_ = nullptr;
  timer_.cancel();
  if (!keep_alive_) return shut_down();
  set_timer(server_.options.idle_timeout, &HttpSession::abandon);
  if (!watching_) return read_header();
  // The outstanding read waits for the next request; where a part of that has come already, it has to go on.
  error_code ignored;
  if (buffer_.size() > 0) socket_.cancel(ignored);
}

void HttpSession::refuse(const ApiError& error) {
  answering_ = true;
  ++server_.answering;
  HttpResponse response = error.response();
  response.close = true;
  respond(std::move(response));
}

void HttpSession::refuse_or_abandon(error_code error) {
  if (!is_malformed(error)) return abandon();
  refuse(ApiError::invalid("", "this is not HTTP/1.1: " + error.message(), "invalid_http"));
}

void HttpSession::shut_down() {
  error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  set_timer(kLinger, &HttpSession::abandon);
  ending_ = true;
  // The read that is outstanding ends, and goes on as the one that discards.
  if (watching_) {
    socket_.cancel(ignored);
  } else {
    discard();
  }
}

void HttpSession::discard() {
  buffer_.clear();
  socket_.async_read_some(buffer_.prepare(kReadAhead), [self = shared_from_this()](error_code error, size_t) {
    error ? self->abandon() : self->discard();
  });
}

void HttpSession::abandon() {
  if (std::exchange(closed_, true)) return;
  error_code ignored;
  timer_.cancel();
  socket_.close(ignored);
  if (std::exchange(answering_, false)) --server_.answering;
  if (const auto call = std::exchange(on_gone_, nullptr)) call();
}

}  // namespace tessera
