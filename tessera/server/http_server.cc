// Sessions over Boost.Beast: read a request, hand it on, write the answer; one timer each.
#include "tessera/server/http_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "tessera/base/error.h"
#include "tessera/server/api_error.h"

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

/// What all sessions share.
class HttpServer::Implementation {
 public:
  explicit Implementation(const HttpOptions& options)
      : options_(options), workers_(static_cast<size_t>(options.worker_threads)) {}

  void listen(HttpHandler handler);
  void stop();
  void drain();
  uint16_t port() const { return port_; }

  const HttpOptions& options() const { return options_; }
  const HttpHandler& handler() const { return handler_; }
  asio::thread_pool& workers() { return workers_; }
  bool draining() const { return draining_; }

  std::atomic<size_t> connections_ = 0, answering_ = 0;  // outlive context_, which holds sessions

 private:
  void accept();

  HttpOptions options_;
  HttpHandler handler_;
  asio::io_context context_;
  tcp::acceptor acceptor_{asio::make_strand(context_)};
  asio::steady_timer retry_{acceptor_.get_executor()};
  asio::thread_pool workers_;
  std::vector<std::thread> threads_;
  uint16_t port_ = 0;
  std::atomic<bool> draining_ = false;
};

namespace {

/// One connection. All its functions run on its strand but for post() and work().
class Session : public HttpConnection, public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket socket, HttpServer::Implementation& server)
      : server_(server), socket_(std::move(socket)), timer_(socket_.get_executor()) {
    ++server_.connections_;
  }
  ~Session() override { --server_.connections_; }

  void start();
  /// Answers without a request, or one that cannot be read, and closes.
  void refuse(const ApiError& error);

  void post(std::function<void()> task) override {
    asio::post(socket_.get_executor(), [self = shared_from_this(), task = std::move(task)] { task(); });
  }
  void work(std::function<void()> task) override {
    asio::post(server_.workers(), [self = shared_from_this(), task = std::move(task)] { task(); });
  }
  void on_gone(std::function<void()> call) override { on_gone_ = std::move(call); }
  void respond(HttpResponse response) override;
  void expect_events(HttpResponse head) override;
  bool events_began() const override { return events_began_; }
  void send_events(std::string events) override;
  void end_events(bool close) override;

 private:
  using Milliseconds = std::chrono::milliseconds;

  /// Calls `action` when nothing sets the timer anew before.
  void set_timer(Milliseconds time, void (Session::*action)());
  void read_header();
  void on_header(error_code error);
  void read_body();
  void dispatch();
  /// Keeps a read outstanding during an answer: it tells when the client goes.
  void watch();
  void begin_events();
  void sign_of_life();
  void send(std::string bytes);
  void write_some();
  void written_all();
  void answered();
  std::string head_of(const HttpResponse& response, const std::string& framing) const;
  /// The client hears no more of us, but its unread bytes do not reset the connection under the last answer.
  void shut_down();
  void discard();
  void abandon();

  HttpServer::Implementation& server_;
  tcp::socket socket_;
  asio::steady_timer timer_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  unsigned version_ = 11;
  std::string request_id_;

  std::function<void()> on_gone_;
  std::optional<HttpResponse> events_head_;
  std::string pending_, in_flight_;  ///< bytes to write, bytes that are being written
  size_t written_ = 0;               ///< of in_flight_
  bool answering_ = false, complete_ = false, events_began_ = false, keep_alive_ = true;
  bool watching_ = false, writing_ = false, ending_ = false, closed_ = false;
};

void Session::start() {
  error_code ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
  read_header();
}

void Session::set_timer(Milliseconds time, void (Session::*action)()) {
  timer_.expires_after(time);
  const auto due = timer_.expiry();
  timer_.async_wait([self = shared_from_this(), due, action](error_code error) {
    if (!error && self->timer_.expiry() == due && !self->closed_) (self.get()->*action)();
  });
}

void Session::read_header() {
  if (closed_) return;
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(server_.options().max_header));
  parser_->body_limit(server_.options().max_body);
  http::async_read_header(socket_, buffer_, *parser_,
                          [self = shared_from_this()](error_code error, size_t) { self->on_header(error); });
  set_timer(server_.options().header_timeout, &Session::abandon);
}

void Session::on_header(error_code error) {
  const HttpOptions& options = server_.options();
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return refuse(
        ApiError::too_large(431, fmt::format("the header is longer than {} bytes", options.max_header)));
  }
  if (error == http::error::body_limit) {
    return refuse(
        ApiError::too_large(413, fmt::format("the body is longer than {} bytes", options.max_body)));
  }
  if (error.category() == http::make_error_code(http::error::bad_method).category() &&
      error != http::error::end_of_stream && error != http::error::partial_message) {
    return refuse(ApiError::invalid("", "this is not HTTP/1.1: " + error.message(), "invalid_http"));
  }
  if (error) return abandon();
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

void Session::read_body() {
  http::async_read(socket_, buffer_, *parser_, [self = shared_from_this()](error_code error, size_t) {
    if (error == http::error::body_limit) {
      return self->refuse(ApiError::too_large(
          413, fmt::format("the body is longer than {} bytes", self->server_.options().max_body)));
    }
    error ? self->abandon() : self->dispatch();
  });
  set_timer(server_.options().body_timeout, &Session::abandon);
}

void Session::dispatch() {
  timer_.cancel();
  auto message = parser_->release();
  keep_alive_ = message.keep_alive();
  const std::string target(message.target());
  request_id_ = request_id(message["X-Request-Id"]);
  error_code ignored;
  HttpRequest request{.method = std::string(message.method_string()),
                      .path = target.substr(0, target.find('?')),
                      .id = request_id_,
                      .authorization = std::string(message[http::field::authorization]),
                      .body = std::move(message.body()),
                      .peer = socket_.remote_endpoint(ignored).address().to_string()};
  answering_ = true;
  complete_ = events_began_ = false;
  ++server_.answering_;
  watch();
  server_.handler()(std::move(request), shared_from_this());
}

void Session::watch() {
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

std::string Session::head_of(const HttpResponse& response, const std::string& framing) const {
  std::string head = status_line(version_, response.status);
  head += fmt::format("Content-Type: {}\r\n{}Connection: {}\r\n", response.content_type, framing,
                      keep_alive_ ? "keep-alive" : "close");
  if (const std::string& origin = server_.options().cors_origin; !origin.empty()) {
    head += fmt::format("Access-Control-Allow-Origin: {}\r\nAccess-Control-Allow-Headers: *\r\n", origin);
  }
  if (!request_id_.empty()) head += fmt::format("X-Request-Id: {}\r\n", request_id_);
  for (const auto& [name, value] : response.headers) head += fmt::format("{}: {}\r\n", name, value);
  return head + "\r\n";
}

void Session::respond(HttpResponse response) {
  if (closed_ || !answering_ || complete_) return;
  keep_alive_ = keep_alive_ && !response.close && !server_.draining();
  complete_ = true;
  send(head_of(response, fmt::format("Content-Length: {}\r\n", response.body.size())) + response.body);
}

void Session::expect_events(HttpResponse head) {
  events_head_ = std::move(head);
  set_timer(server_.options().sign_of_life, &Session::sign_of_life);
}

void Session::begin_events() {
  if (std::exchange(events_began_, true)) return;
  // HTTP/1.0 knows no chunks: there the end of the connection ends the answer.
  if (version_ < 11) keep_alive_ = false;
  send(head_of(*events_head_, version_ < 11 ? "" : "Transfer-Encoding: chunked\r\n"));
}

void Session::send_events(std::string events) {
  if (closed_ || !answering_ || complete_ || events.empty()) return;
  begin_events();
  send(version_ < 11 ? std::move(events) : fmt::format("{:x}\r\n{}\r\n", events.size(), events));
}

void Session::sign_of_life() {
  send_events(": ping\n\n");
}

void Session::end_events(bool close) {
  if (closed_ || !answering_ || complete_) return;
  begin_events();
  keep_alive_ = keep_alive_ && !close && !server_.draining();
  complete_ = true;
  send(version_ < 11 ? "" : "0\r\n\r\n");
}

void Session::send(std::string bytes) {
  pending_ += bytes;
  if (!writing_) write_some();
}

void Session::write_some() {
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
  set_timer(server_.options().write_timeout, &Session::abandon);
}

void Session::written_all() {
  if (complete_) return answered();
  set_timer(server_.options().sign_of_life, &Session::sign_of_life);
}

void Session::answered() {
  if (std::exchange(answering_, false)) --server_.answering_;
  on_gone_ = nullptr;
  timer_.cancel();
  if (!keep_alive_) return shut_down();
  set_timer(server_.options().idle_timeout, &Session::abandon);
  if (!watching_) return read_header();
  // The outstanding read waits for the next request; where a part of that has come already, it has to go on.
  error_code ignored;
  if (buffer_.size() > 0) socket_.cancel(ignored);
}

void Session::refuse(const ApiError& error) {
  answering_ = true;
  ++server_.answering_;
  HttpResponse response = error.response();
  response.close = true;
  respond(std::move(response));
}

void Session::shut_down() {
  error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  set_timer(kLinger, &Session::abandon);
  ending_ = true;
  // The read that is outstanding ends, and goes on as the one that discards.
  if (watching_) {
    socket_.cancel(ignored);
  } else {
    discard();
  }
}

void Session::discard() {
  buffer_.clear();
  socket_.async_read_some(buffer_.prepare(kReadAhead), [self = shared_from_this()](error_code error, size_t) {
    error ? self->abandon() : self->discard();
  });
}

void Session::abandon() {
  if (std::exchange(closed_, true)) return;
  error_code ignored;
  timer_.cancel();
  socket_.close(ignored);
  if (std::exchange(answering_, false)) --server_.answering_;
  if (const auto call = std::exchange(on_gone_, nullptr)) call();
}

}  // namespace

void HttpServer::Implementation::listen(HttpHandler handler) {
  handler_ = std::move(handler);
  try {
    const tcp::endpoint endpoint(asio::ip::make_address(options_.host), options_.port);
    acceptor_.open(endpoint.protocol());
    acceptor_.set_option(asio::socket_base::reuse_address(true));
    acceptor_.bind(endpoint);
    acceptor_.listen(1024);
    port_ = acceptor_.local_endpoint().port();
  } catch (const boost::system::system_error& e) {
    throw Error("cannot listen on {}:{}: {}; choose another --host or --port", options_.host, options_.port,
                e.code().message());
  }
  accept();
  for (int i = 0; i < options_.io_threads; ++i) threads_.emplace_back([this] { context_.run(); });
}

void HttpServer::Implementation::accept() {
  acceptor_.async_accept(asio::make_strand(context_), [this](error_code error, tcp::socket socket) {
    if (!acceptor_.is_open()) return;
    if (error) {
      // No file descriptor is left, most likely: some will be free soon.
      retry_.expires_after(std::chrono::milliseconds(100));
      return retry_.async_wait([this](error_code) {
        if (acceptor_.is_open()) accept();
      });
    }
    const auto session = std::make_shared<Session>(std::move(socket), *this);
    const bool full = connections_ > options_.max_connections;
    session->post([session, full] {
      if (!full) return session->start();
      session->refuse(ApiError::overloaded(503, "connections", "too many connections", 1));
    });
    accept();
  });
}

void HttpServer::Implementation::drain() {
  draining_ = true;
  asio::post(acceptor_.get_executor(), [this] {
    error_code ignored;
    acceptor_.close(ignored);
  });
}

void HttpServer::Implementation::stop() {
  if (threads_.empty()) return;
  context_.stop();
  workers_.stop();
  for (std::thread& thread : threads_) thread.join();
  workers_.join();
  threads_.clear();
}

HttpServer::HttpServer(const HttpOptions& options)
    : implementation_(std::make_unique<Implementation>(options)) {}

HttpServer::~HttpServer() {
  stop();
}

void HttpServer::start(HttpHandler handler) {
  implementation_->listen(std::move(handler));
}
void HttpServer::stop() {
  implementation_->stop();
}
uint16_t HttpServer::port() const {
  return implementation_->port();
}
size_t HttpServer::connections() const {
  return implementation_->connections_;
}
size_t HttpServer::answering() const {
  return implementation_->answering_;
}
void HttpServer::drain() {
  implementation_->drain();
}

}  // namespace tessera
