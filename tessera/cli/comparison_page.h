// A comparison as one self-contained HTML page with plots.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

namespace tessera {

/// Writes the page. `comparison` is what compare prints as JSON, where each candidate may also carry
/// "channel_absmax": for every block the list of {"after": PASS, "sites": {SITE: [maxima]}} of report.json.
/// Throws Error when the file cannot be written.
void write_comparison_page(const std::filesystem::path& file, const nlohmann::json& comparison);

}  // namespace tessera
