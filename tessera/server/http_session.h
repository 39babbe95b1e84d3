// One HTTP connection over Boost.Beast: reads a request, hands it on, writes the answer; one timer. Included
// by http_server.cc and http_session.cc alone.
#pragma once

#include <atomic>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "tessera/server/api_error.h"
#include "tessera/server/http_server.h"

namespace tessera {

/// How many connections each address has.
class PeerCounts {
 public:
  /// With the one that comes.
  size_t enter(const std::string& peer) {
    const std::lock_guard lock(mutex_);
    return ++counts_[peer];
  }
  void leave(const std::string& peer) {
    const std::lock_guard lock(mutex_);
    if (const auto found = counts_.find(peer); --found->second == 0) counts_.erase(found);
  }

 private:
  std::mutex mutex_;
  std::map<std::string, size_t> counts_;
};

/// What all sessions share. It outlives them.
struct HttpShared {
  HttpOptions options;
  HttpHandler handler;
  boost::asio::thread_pool workers;
  std::atomic<size_t> connections = 0, answering = 0;
  std::atomic<bool> draining = false;
  PeerCounts peers;

  explicit HttpShared(const HttpOptions& given)
      : options(given), workers(static_cast<size_t>(given.worker_threads)) {}
};

/// One connection. All its functions run on its strand but for post() and work().
class HttpSession : public HttpConnection, public std::enable_shared_from_this<HttpSession> {
 public:
  HttpSession(boost::asio::ip::tcp::socket socket, HttpShared& server);
  ~HttpSession() override;

  /// Reads the first request, or refuses the connection where there are too many.
  void start();
  void post(std::function<void()> task) override {
    boost::asio::post(socket_.get_executor(),
                      [self = shared_from_this(), task = std::move(task)] { task(); });
  }
  void work(std::function<void()> task) override {
    boost::asio::post(server_.workers, [self = shared_from_this(), task = std::move(task)] { task(); });
  }
  void on_gone(std::function<void()> call) override;
  void respond(HttpResponse response) override;
  void expect_events(HttpResponse head) override;
  bool events_began() const override { return events_began_; }
  void send_events(std::string events) override;
  void end_events(bool close) override;

 private:
  using Milliseconds = std::chrono::milliseconds;

  /// Calls `action` when nothing sets the timer anew before.
  void set_timer(Milliseconds time, void (HttpSession::*action)());
  /// Answers without a request, or one that cannot be read, and closes.
  void refuse(const ApiError& error);
  /// Of a request that could not be read.
  void refuse_or_abandon(boost::system::error_code error);
  void read_header();
  void on_header(boost::system::error_code error);
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

  HttpShared& server_;
  std::string peer_;  ///< address of the client
  bool one_too_many_ = false;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer timer_;
  boost::beast::flat_buffer buffer_;
  std::optional<boost::beast::http::request_parser<boost::beast::http::string_body>> parser_;
  unsigned version_ = 11;
  std::string request_id_;

  std::function<void()> on_gone_;
  std::optional<HttpResponse> events_head_;
  std::string pending_, in_flight_;  ///< bytes to write, bytes that are being written
  size_t written_ = 0;               ///< of in_flight_
  bool answering_ = false, complete_ = false, events_began_ = false, keep_alive_ = true;
  bool watching_ = false, writing_ = false, ending_ = false, closed_ = false;
};

}  // namespace tessera
