// Connections themselves; tests/serve speaks to the whole server.
#include "tessera/server/http_server.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "tessera/server/http_client.h"
#include "tessera/server/test_eventually.h"

namespace tessera {
namespace {

// What is told holds the connection, as an answer under way does.
TEST(HttpServer, TellsAtOnceOfAClientThatHasLeftAndLetsGoOfIt) {
  std::promise<std::shared_ptr<HttpConnection>> arrived;
  std::atomic<bool> leave = false, told = false;
  HttpServer server({.port = 0});
  server.start([&](const HttpRequest&, std::shared_ptr<HttpConnection> connection) {
    arrived.set_value(std::move(connection));
    leave = true;
  });
  EXPECT_TRUE(http_call({.host = "127.0.0.1", .port = fmt::to_string(server.port())},
                        {.cancelled = [&] { return leave.load(); }})
                  .cancelled);
  std::shared_ptr<HttpConnection> connection = arrived.get_future().get();
  ASSERT_TRUE(eventually([&] { return server.answering() == 0; }));
  EXPECT_EQ(server.connections(), 1u);
  connection->post([&told, connection] { connection->on_gone([&told, connection] { told = true; }); });
  connection.reset();
  EXPECT_TRUE(eventually([&] { return told.load(); }));
  EXPECT_TRUE(eventually([&] { return server.connections() == 0; }));
}

}  // namespace
}  // namespace tessera
