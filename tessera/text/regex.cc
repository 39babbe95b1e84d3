// Regex over PCRE2's just-in-time compiler.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tessera/text/regex.h"

#include <pcre2.h>

#include "tessera/base/error.h"
#include "tessera/text/oniguruma.h"
#include "tessera/text/unicode.h"

namespace tessera {
namespace {

std::string message_of(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

/// A thread's match context: a JIT stack that can grow, for patterns that backtrack over long texts.
class MatchContext {
 public:
  MatchContext()
      : context_(pcre2_match_context_create(nullptr)),
        stack_(pcre2_jit_stack_create(size_t{64} << 10, size_t{64} << 20, nullptr)) {
    pcre2_jit_stack_assign(context_, nullptr, stack_);
  }
  ~MatchContext() {
    pcre2_jit_stack_free(stack_);
    pcre2_match_context_free(context_);
  }
  MatchContext(const MatchContext&) = delete;
  MatchContext& operator=(const MatchContext&) = delete;
  pcre2_match_context* get() const { return context_; }

 private:
  pcre2_match_context* context_;
  pcre2_jit_stack* stack_;
};

pcre2_match_context* match_context() {
  thread_local const MatchContext context;
  return context.get();
}

}  // namespace

Regex::Regex(std::string_view pattern, Syntax syntax, std::string where) : where_(std::move(where)) {
  const bool literal = syntax == Syntax::kLiteral;
  const std::string source = literal ? std::string(pattern) : oniguruma_to_pcre2(pattern, where_);
  // Oniguruma's Ruby syntax lets ^ and $ match at every line.
  const uint32_t options = literal ? PCRE2_UTF | PCRE2_LITERAL : PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE;
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  size_t offset = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(), options, &error,
                            &offset, context.get()),
              pcre2_code_free);
  if (!code_) {
    throw Error("{}: regex '{}' does not compile: {}", where_, pattern, message_of(error));
  }
  pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);  // where it fails, PCRE2 interprets the pattern
}

std::vector<Range> Regex::find_all(std::string_view text) const {
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
      pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  std::vector<Range> matches;
  if (text.empty()) return matches;
  for (size_t start = 0; start <= text.size();) {
    const int status = pcre2_match(code_.get(), subject, text.size(), start, PCRE2_NO_UTF_CHECK, match.get(),
                                   match_context());
    if (status == PCRE2_ERROR_NOMATCH) break;
    if (status < 0) throw Error("{}: the regex fails on this text: {}", where_, message_of(status));
    const size_t* range = pcre2_get_ovector_pointer(match.get());
    if (range[0] < (matches.empty() ? 0 : matches.back().end) || range[1] < range[0])  // \K can do that
      throw Error("{}: the regex gives matches that overlap or end before they begin", where_);
    const bool repeats = range[0] == range[1] && !matches.empty() && matches.back().end == range[1];
    if (repeats) {
      start += start < text.size() ? decode_code_point(text.substr(start)).length : 1;
    } else {
      matches.push_back({range[0], range[1]});
      start = range[1];
    }
  }
  return matches;
}

}  // namespace tessera
