// Post-processors.
#include "tessera/text/post_processor.h"

namespace tessera {
namespace {

PostProcessor parse_template(const JsonNode& node, int32_t vocab_size) {
  PostProcessor result;
  bool text_seen = false;
  for (const JsonNode& piece : node["single"].items()) {
    const JsonNode special = piece["SpecialToken"];
    if (special.is_null()) {
      if (text_seen || piece["Sequence"]["id"].string() != "A")
        piece.fail("expected the text once, as sequence A");
      text_seen = true;
      continue;
    }
    const std::string& name = special["id"].string();
    for (const JsonNode& id : node["special_tokens"][name]["ids"].items()) {
      (text_seen ? result.after : result.before).push_back(id.integer(0, vocab_size - 1));
    }
  }
  if (!text_seen) node.fail("the template for one sequence does not contain it");
  return result;
}

PostProcessor parse_sequence(const JsonNode& node, int32_t vocab_size) {
  PostProcessor result;
  for (const JsonNode& stage : node["processors"].items()) {
    PostProcessor next = parse_post_processor(stage, vocab_size);
    if (next.before.empty() && next.after.empty()) continue;
    if (!result.before.empty() || !result.after.empty()) stage.fail("only one stage may add special tokens");
    result = std::move(next);
  }
  return result;
}

}  // namespace

PostProcessor parse_post_processor(const JsonNode& node, int32_t vocab_size) {
  if (node.is_null()) return {};
  const std::string& type = node["type"].string();
  if (type == "ByteLevel") return {};
  if (type == "TemplateProcessing") return parse_template(node, vocab_size);
  if (type == "Sequence") return parse_sequence(node, vocab_size);
  node.fail("components of type '{}' are not supported", type);
}

}  // namespace tessera
