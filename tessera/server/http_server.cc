// Accepting connections, and the threads that serve them.
#include "tessera/server/http_server.h"

#include <thread>
#include <vector>

#include "tessera/base/error.h"
#include "tessera/server/http_session.h"

namespace tessera {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

}  // namespace

class HttpServer::Implementation {
 public:
  explicit Implementation(const HttpOptions& options) : shared_(options) {}

  void listen(HttpHandler handler);
  void stop();
  void drain();
  uint16_t port() const { return port_; }
  const HttpShared& shared() const { return shared_; }

 private:
  void accept();

  HttpShared shared_;  // outlives context_, which holds sessions
  asio::io_context context_;
  tcp::acceptor acceptor_{asio::make_strand(context_)};
  asio::steady_timer retry_{acceptor_.get_executor()};
  std::vector<std::thread> threads_;
  uint16_t port_ = 0;
};

void HttpServer::Implementation::listen(HttpHandler handler) {
  shared_.handler = std::move(handler);
  try {
    const tcp::endpoint endpoint(asio::ip::make_address(shared_.options.host), shared_.options.port);
    acceptor_.open(endpoint.protocol());
    acceptor_.set_option(asio::socket_base::reuse_address(true));
    acceptor_.bind(endpoint);
    acceptor_.listen(1024);
    port_ = acceptor_.local_endpoint().port();
  } catch (const boost::system::system_error& e) {
    throw Error("cannot listen on {}:{}: {}; choose another --host or --port", shared_.options.host,
                shared_.options.port, e.code().message());
  }
  accept();
  for (int i = 0; i < shared_.options.io_threads; ++i) threads_.emplace_back([this] { context_.run(); });
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
    const auto session = std::make_shared<HttpSession>(std::move(socket), shared_);
    session->post([session] { session->start(); });
    accept();
  });
}

void HttpServer::Implementation::drain() {
  shared_.draining = true;
  asio::post(acceptor_.get_executor(), [this] {
    error_code ignored;
    acceptor_.close(ignored);
  });
}

void HttpServer::Implementation::stop() {
  if (threads_.empty()) return;
  context_.stop();
  shared_.workers.stop();
  for (std::thread& thread : threads_) thread.join();
  shared_.workers.join();
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
  return implementation_->shared().connections;
}
size_t HttpServer::answering() const {
  return implementation_->shared().answering;
}
void HttpServer::drain() {
  implementation_->drain();
}

}  // namespace tessera
