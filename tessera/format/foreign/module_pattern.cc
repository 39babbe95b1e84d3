// Names of modules, through PCRE2.
#include "tessera/format/foreign/module_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace tessera::foreign {
namespace {

constexpr std::string_view kRegexPrefix = "re:";
constexpr uint32_t kMatchLimit = 100'000;  ///< steps; real patterns take hundreds

}  // namespace

ModulePattern::ModulePattern(const JsonNode& entry) : text_(entry.string()), where_(entry.where()) {
  if (text_ == "Linear") kind_ = Kind::kClass;
  if (!text_.starts_with(kRegexPrefix)) return;
  kind_ = Kind::kRegex;
  text_.erase(0, kRegexPrefix.size());
  int error = 0;
  size_t offset = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text_.data()), text_.size(), PCRE2_ANCHORED, &error,
                            &offset, nullptr),
              pcre2_code_free);
  if (!code_) entry.fail("{} is no regular expression", entry.shown());
}

bool ModulePattern::matches(const std::string& name) const {
  if (kind_ == Kind::kClass) return true;
  if (kind_ == Kind::kName) return name == text_;
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> limits(
      pcre2_match_context_create(nullptr), pcre2_match_context_free);
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> result(
      pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  pcre2_set_match_limit(limits.get(), kMatchLimit);
  const int count = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0, 0,
                                result.get(), limits.get());
  if (count < 0 && count != PCRE2_ERROR_NOMATCH)
    throw Error("{}: the expression takes too long on '{}'", where_, name);
  return count >= 0;
}

}  // namespace tessera::foreign
