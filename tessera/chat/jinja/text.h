// Python's str in UTF-8: lengths and positions count code points.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tessera::jinja {

/// Code points in `text`, which is valid UTF-8, as everywhere here.
size_t length(std::string_view text);
/// Its code points, each as UTF-8.
std::vector<std::string_view> characters(std::string_view text);

/// Python's str.isspace() of one character.
bool is_space(char32_t c);

enum class Side { kBoth, kLeft, kRight };
/// Without the white space at its ends, or, where `characters` is not null, without those of its characters.
std::string_view strip(std::string_view text, Side side, const std::string* characters = nullptr);

/// Simple case mapping, character by character.
std::string upper(std::string_view text);
std::string lower(std::string_view text);
/// First character upper case, the rest lower case.
std::string capitalize(std::string_view text);
/// Upper case after what is not a letter, as str.title() does.
std::string title(std::string_view text);

/// At every `separator`, which is not empty, `most` times at most; from the right if `from_right`.
std::vector<std::string_view> split(std::string_view text, std::string_view separator, size_t most,
                                    bool from_right);
/// At white space, without empty parts; the last of more than `most` + 1 parts keeps its white space.
std::vector<std::string_view> split_words(std::string_view text, size_t most);
/// At line ends; `keep_ends` leaves them in.
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

/// `text` in quotes, as Python's repr() writes it.
std::string in_quotes(std::string_view text);

}  // namespace tessera::jinja
