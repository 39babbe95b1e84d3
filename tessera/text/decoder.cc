// Decoders.
#include "tessera/text/decoder.h"

#include <fmt/ranges.h>

#include <charconv>
#include <optional>

#include "tessera/text/byte_level.h"
#include "tessera/text/component.h"
#include "tessera/text/split.h"

namespace tessera {
namespace {

using Tokens = std::vector<std::string>;

/// A decoder that changes every token by itself.
template <class Function>
Decoder each_token(Function function) {
  return [function](Tokens tokens) {
    for (std::string& token : tokens) token = function(token);
    return tokens;
  };
}

Tokens fuse_tokens(const Tokens& tokens) {
  std::string text;
  for (const std::string& token : tokens) text += token;
  return {std::move(text)};
}

Decoder sequence(const JsonNode& node) {
  std::vector<Decoder> stages;
  for (const JsonNode& stage : node["decoders"].items()) stages.push_back(parse_decoder(stage));
  return [stages](Tokens tokens) {
    for (const Decoder& stage : stages) tokens = stage(std::move(tokens));
    return tokens;
  };
}

Decoder byte_level(const JsonNode&) {
  return [](const Tokens& tokens) {
    std::string bytes;
    for (const std::string& token : tokens) bytes += alphabet_to_bytes(token);
    return Tokens{replace_invalid_utf8(bytes)};
  };
}

Decoder replace(const JsonNode& node) {
  return each_token([pattern = parse_pattern(node["pattern"]), content = node["content"].string()](
                        const std::string& token) { return replace_all(token, pattern, content); });
}

Decoder fuse(const JsonNode&) {
  return fuse_tokens;
}

/// The byte that a token such as "<0x0A>" stands for.
std::optional<char> byte_of(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  unsigned byte = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  if (error != std::errc() || end != token.data() + 5) return std::nullopt;
  return static_cast<char>(byte);
}

Decoder byte_fallback(const JsonNode&) {
  return [](Tokens tokens) {
    Tokens out;
    std::string bytes;
    const auto flush = [&] {
      if (is_valid_utf8(bytes)) {
        if (!bytes.empty()) out.push_back(bytes);
      } else {
        out.insert(out.end(), bytes.size(), std::string(kReplacementUtf8));
      }
      bytes.clear();
    };
    for (std::string& token : tokens) {
      if (const auto byte = byte_of(token)) {
        bytes += *byte;
      } else {
        flush();
        out.push_back(std::move(token));
      }
    }
    flush();
    return out;
  };
}

/// Removes up to `start` copies of a character from the start of each token, and up to `stop` from its end.
Decoder strip(const JsonNode& node) {
  const std::string content = one_character(node["content"]);
  const auto start = node["start"].integer<int32_t>(0), stop = node["stop"].integer<int32_t>(0);
  return each_token([content, start, stop](std::string_view token) {
    for (int32_t i = 0; i < start && token.starts_with(content); ++i) token.remove_prefix(content.size());
    for (int32_t i = 0; i < stop && token.ends_with(content); ++i) token.remove_suffix(content.size());
    return std::string(token);
  });
}

Decoder metaspace(const JsonNode& node) {
  const std::string replacement = one_character(node["replacement"]);
  const Regex pattern(replacement, Regex::Syntax::kLiteral, node.where());
  const JsonNode scheme = node["prepend_scheme"];
  const bool prepended =
      scheme.is_null() ? node["add_prefix_space"].get_or(true) : scheme.string() != "never";
  return [pattern, prepended](Tokens tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = replace_all(tokens[i], pattern, i == 0 && prepended ? "" : " ");
    }
    return tokens;
  };
}

}  // namespace

Decoder parse_decoder(const JsonNode& node) {
  if (node.is_null())
    return [](const Tokens& tokens) { return Tokens{fmt::format("{}", fmt::join(tokens, " "))}; };
  return make_component<Decoder>(node, {{"Sequence", sequence},
                                        {"ByteLevel", byte_level},
                                        {"Replace", replace},
                                        {"ByteFallback", byte_fallback},
                                        {"Fuse", fuse},
                                        {"Strip", strip},
                                        {"Metaspace", metaspace}});
}

}  // namespace tessera
