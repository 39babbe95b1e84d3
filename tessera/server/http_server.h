// HTTP/1.1: connections, limits and time-outs. The only part that knows Boost.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "tessera/server/http.h"

namespace tessera {

struct HttpOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;  ///< 0: a free one
  int io_threads = 2, worker_threads = 2;
  size_t max_connections = 4096;
  size_t max_peer_connections = 0;  ///< of one address; 0: as many as there are at all
  size_t max_body = size_t{8} << 20, max_header = size_t{16} << 10, max_target = size_t{4} << 10;  ///< bytes
  std::chrono::milliseconds header_timeout{10'000}, body_timeout{30'000}, idle_timeout{75'000},
      write_timeout{30'000}, sign_of_life{15'000};
  std::string cors_origin = {};  ///< Access-Control-Allow-Origin; empty: none
};

class HttpServer {
 public:
  explicit HttpServer(const HttpOptions& options);
  ~HttpServer();

  /// Listens, and serves in threads of its own until stop(); calls `handler` on I/O threads. Throws Error
  /// when the address cannot be used.
  void start(HttpHandler handler);
  /// Ends the threads. `handler` is not called any more.
  void stop();

  uint16_t port() const;
  /// Connections that are open.
  size_t connections() const;
  /// Connections whose request is being answered.
  size_t answering() const;
  /// New connections are refused; those that are there end behind their present answer.
  void drain();

 private:
  class Implementation;

  std::unique_ptr<Implementation> implementation_;
};

}  // namespace tessera
