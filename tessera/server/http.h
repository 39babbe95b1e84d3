// The seam between the routes and the HTTP library.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace tessera {

struct HttpRequest {
  std::string method = {}, path = {};  ///< path without the query
  std::string id = {};                 ///< the client's X-Request-Id, or one made; every answer carries it
  std::string authorization = {}, body = {};
  std::string peer = {};  ///< address of the client
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
  bool close = false;  ///< the connection ends behind it
};

/// Where the answer to one request goes. Any thread may call post() and work(); everything else is called
/// from within a post() on the connection or from within the handler, before it returns.
class HttpConnection {
 public:
  virtual ~HttpConnection() = default;

  /// Runs `task` on an I/O thread, one at a time for each connection.
  virtual void post(std::function<void()> task) = 0;
  /// Runs `task`, which may take long, on a worker thread.
  virtual void work(std::function<void()> task) = 0;
  /// The client has gone before its answer was complete, or does not read it; called at most once,
  /// at once when it has gone already.
  virtual void on_gone(std::function<void()> call) = 0;

  /// The whole answer.
  virtual void respond(HttpResponse response) = 0;

  /// An answer in events. Nothing is sent before the first event or, when none comes, before a sign of life
  /// is due; until then respond() can still answer otherwise.
  virtual void expect_events(HttpResponse head) = 0;
  virtual bool events_began() const = 0;
  virtual void send_events(std::string events) = 0;
  virtual void end_events(bool close) = 0;
};

using HttpHandler = std::function<void(HttpRequest, std::shared_ptr<HttpConnection>)>;

}  // namespace tessera
