// The regular expressions of tokenizer.json are written for Oniguruma; this rewrites them for PCRE2.
#pragma once

#include <string>
#include <string_view>

namespace tessera {

/// The PCRE2 pattern (options UTF, UCP, MULTILINE) that means what `pattern` means in Oniguruma's Ruby
/// syntax. Where both spell the same thing differently:
///
///   \s \S      White_Space; PCRE2 counts U+180E too
///   \w \W \b   with marks and letter-like numbers; PCRE2 takes letters, numbers and "_"
///   \h \v \u   hexadecimal digit, vertical tab, code point
///   [a[bc]]    a class in a class; PCRE2 has none
///   [:alpha:]  by Unicode properties
///   \p{Han}    a script; PCRE2 means its extensions, which include ideographic punctuation
///   x{1,3}+    a repeated repetition; PCRE2 reads a possessive one
///   (?m:.)     the dot matches newlines
///
/// Throws Error, opened by `where`, for set operations in character classes. One difference remains:
/// without case, Oniguruma also lets one character match two ("ß" and "ss").
std::string oniguruma_to_pcre2(std::string_view pattern, const std::string& where);

}  // namespace tessera
