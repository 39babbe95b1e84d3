// Fills comparison_page.html, which the build embeds, with the data that its script draws.
#include "tessera/cli/comparison_page.h"

#include "tessera/base/atomic_output.h"
#include "tessera/base/json_node.h"
#include "tessera/cli/comparison_page_html.h"

namespace tessera {
namespace {

/// JSON inside a script element must not end it.
std::string script_safe(std::string json) {
  for (size_t at = json.find("</"); at != std::string::npos; at = json.find("</", at))
    json.insert(at + 1, "\\");
  return json;
}

}  // namespace

void write_comparison_page(const std::filesystem::path& file, const nlohmann::json& comparison) {
  std::string page = kComparisonPageHtml;
  constexpr std::string_view kPlace = "/*COMPARISON*/null";
  page.replace(page.find(kPlace), kPlace.size(), script_safe(json_text(comparison)));
  write_file(file, page);
}

}  // namespace tessera
