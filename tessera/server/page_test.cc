// The page as the server sends it; tests/page uses it in a browser.
#include "tessera/server/page.h"

#include <gtest/gtest.h>

#include "tessera/base/atomic_output.h"
#include "tessera/base/hash.h"

namespace tessera {
namespace {

TEST(ChatPage, IsTheFileUnderAPolicyOfItsOwnScript) {
  const HttpResponse page = chat_page();
  EXPECT_EQ(page.body, read_file(std::filesystem::path(TESSERA_SOURCE_DIR) / "tessera/server/page.html"));
  EXPECT_LT(page.body.size(), 40'000u);
  const size_t first = page.body.find("<script>") + 8, last = page.body.find("</script>");
  ASSERT_LT(first, last);
  EXPECT_EQ(page.body.find("<script", first), std::string::npos) << "the policy names one script";
  EXPECT_EQ(page.body.find("://"), std::string::npos) << "nothing comes from elsewhere";
  EXPECT_EQ(page.body.find("innerHTML"), std::string::npos) << "text becomes text nodes";
  const std::string& policy = page.headers.at(0).second;
  EXPECT_NE(policy.find(fmt::format("'sha256-{}'", sha256_base64(page.body.substr(first, last - first)))),
            std::string::npos);
}

}  // namespace
}  // namespace tessera
