// The answer to GET /.
#include "tessera/server/page.h"

#include <fmt/format.h>

#include <string_view>

#include "tessera/base/hash.h"
#include "tessera/server/page_html.h"

namespace tessera {
namespace {

/// What stands between <script> and </script>.
std::string_view script_of(std::string_view page) {
  constexpr std::string_view kOpen = "<script>", kClose = "</script>";
  const size_t first = page.find(kOpen) + kOpen.size();
  return page.substr(first, page.find(kClose, first) - first);
}

std::string security_policy() {
  return fmt::format(
      "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{}'; connect-src 'self'; img-src "
      "data:; "
      "form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
      sha256_base64(script_of(kPageHtml)));
}

}  // namespace

HttpResponse chat_page() {
  static const std::string policy = security_policy();
  return {.content_type = "text/html; charset=utf-8",
          .body = kPageHtml,
          .headers = {{"Content-Security-Policy", policy},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cache-Control", "no-cache"}}};
}

}  // namespace tessera
