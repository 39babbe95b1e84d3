// Reading and checking of the shared fields.
#include "tessera/server/generation_request.h"

#include <algorithm>
#include <mutex>
#include <random>
#include <set>
#include <string_view>

namespace tessera {
namespace {

constexpr int64_t kMaxChoices = 16, kMaxStops = 64, kMaxStopBytes = 1024, kMaxBiases = 1024;

constexpr std::string_view kKnownFields[] = {"add_generation_prompt",
                                             "add_special_tokens",
                                             "best_of",
                                             "chat_template_kwargs",
                                             "echo",
                                             "frequency_penalty",
                                             "ignore_eos",
                                             "logit_bias",
                                             "logprobs",
                                             "max_completion_tokens",
                                             "max_tokens",
                                             "messages",
                                             "min_p",
                                             "min_tokens",
                                             "model",
                                             "n",
                                             "presence_penalty",
                                             "prompt",
                                             "repetition_penalty",
                                             "response_format",
                                             "seed",
                                             "skip_special_tokens",
                                             "stop",
                                             "stream",
                                             "stream_options",
                                             "suffix",
                                             "temperature",
                                             "tool_choice",
                                             "tools",
                                             "top_k",
                                             "top_logprobs",
                                             "top_p",
                                             "user"};

nlohmann::json parse_body(const std::string& text) {
  try {
    return parse_json(text, "request body");
  } catch (const Error& e) {
    throw ApiError::invalid("", e.what(), "invalid_json");
  }
}

void refuse_what_is_not_done(const RequestBody& body, int64_t n) {
  const auto refuse = [](const char* field, const char* why) {
    throw ApiError::invalid(field, why, "unsupported_parameter");
  };
  if (body.has("suffix")) refuse("suffix", "text cannot be inserted; leave suffix out");
  if (body.has("best_of") && body.get_or<int64_t>("best_of", 1) != n) {
    refuse("best_of", "best_of is not supported; ask for n choices and compare them");
  }
  const bool no_tools = body.read("tools", [](const JsonNode& node) {
    return node.is_null() || (node.is_array() && node.items().empty());
  });
  if (!no_tools) refuse("tools", "tools are not supported");
  if (body.has("response_format")) {
    const std::string type =
        body.read("response_format", [](const JsonNode& node) { return node["type"].string(); });
    if (type != "text")
      refuse("response_format", "this build has no grammar support; only type text is possible");
  }
}

std::vector<std::string> read_stops(const JsonNode& node) {
  std::vector<std::string> stops;
  if (node.is_string()) {
    stops = {node.string()};
  } else {
    stops = node.get_or<std::vector<std::string>>({});
  }
  if (std::ssize(stops) > kMaxStops) node.fail("{} stop strings; at most {}", stops.size(), kMaxStops);
  for (const std::string& stop : stops) {
    if (std::ssize(stop) > kMaxStopBytes) node.fail("a stop string is longer than {} bytes", kMaxStopBytes);
  }
  return stops;
}

LogitBias read_bias(const JsonNode& node, int64_t vocab_size) {
  LogitBias bias;
  if (node.is_null()) return bias;
  for (const auto& [key, value] : node.members()) {
    char* end = nullptr;
    const long id = std::strtol(key.c_str(), &end, 10);
    if (key.empty() || *end != '\0' || id < 0 || id >= vocab_size) {
      node.fail("'{}' is not a token id below {}", one_line(key), vocab_size);
    }
    bias[static_cast<int32_t>(id)] = static_cast<float>(value.number(-100, 100));
  }
  if (std::ssize(bias) > kMaxBiases) node.fail("{} ids; at most {}", bias.size(), kMaxBiases);
  return bias;
}

/// Clients may give any integer; a negative one is another seed too.
uint64_t read_seed(const JsonNode& node) {
  if (!node.is_null()) return static_cast<uint64_t>(node.integer<int64_t>());
  static std::mutex mutex;
  static std::random_device device;
  const std::lock_guard lock(mutex);
  return device() & 0x7fffffffu;
}

}  // namespace

RequestBody::RequestBody(const std::string& text)
    : document_(parse_body(text)), root_(document_, "request body") {
  if (!document_.is_object()) {
    throw ApiError::invalid("",
                            fmt::format("the request body must be an object, not {}", document_.type_name()));
  }
}

std::vector<std::string> RequestBody::fields() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : document_.items()) names.push_back(name);
  return names;
}

GenerationRequest read_generation(const RequestBody& body, const ServedModel& served) {
  // Some clients leave the model out: then it is the one that is served.
  if (body.has("model")) served.check_name(body.get_or<std::string>("model", ""));
  GenerationRequest r;
  const auto number = [&](const char* field, float fallback, double low, double high) {
    return body.read(field, [&](const JsonNode& node) {
      return node.is_null() ? fallback : static_cast<float>(node.number(low, high));
    });
  };
  const auto integer = [&](const char* field, int64_t fallback, int64_t low, int64_t high) {
    return body.read(field, [&](const JsonNode& node) {
      return node.is_null() ? fallback : node.integer<int64_t>(low, high);
    });
  };
  constexpr int64_t kMost = int64_t{1} << 40;
  r.n = integer("n", 1, 1, kMaxChoices);
  refuse_what_is_not_done(body, r.n);

  r.sampling.temperature = number("temperature", served.defaults.temperature, 0, 100);
  r.sampling.top_p = number("top_p", served.defaults.top_p, 0, 1);
  if (r.sampling.top_p <= 0) throw ApiError::invalid("top_p", "top_p must be above 0");
  r.sampling.top_k = std::max<int64_t>(0, integer("top_k", served.defaults.top_k, -1, kMost));
  r.sampling.min_p = number("min_p", 0, 0, 1);
  r.sampling.seed = body.read("seed", read_seed);
  r.rules.repetition_penalty = number("repetition_penalty", served.defaults.repetition_penalty, 1e-3, 100);
  r.rules.presence_penalty = number("presence_penalty", 0, -2, 2);
  r.rules.frequency_penalty = number("frequency_penalty", 0, -2, 2);
  r.rules.min_tokens = integer("min_tokens", 0, 0, kMost);
  r.bias = body.read("logit_bias",
                     [&](const JsonNode& node) { return read_bias(node, served.model.spec().vocab_size); });

  for (const char* field : {"max_tokens", "max_completion_tokens"}) {
    if (body.has(field)) r.max_tokens = integer(field, 0, 0, kMost);
  }
  r.stops = body.read("stop", read_stops);
  r.ignore_eos = body.get_or("ignore_eos", false);
  r.skip_special = body.get_or("skip_special_tokens", true);
  r.stream = body.get_or("stream", false);
  r.include_usage = body.read("stream_options", [](const JsonNode& node) {
    return !node.is_null() && node["include_usage"].get_or(false);
  });
  return r;
}

void check_prompt(const std::vector<int32_t>& prompt, const ServedModel& served, const std::string& param) {
  if (prompt.empty()) throw ApiError::invalid(param, "the prompt is empty; give at least one token");
  const int64_t vocab_size = served.model.spec().vocab_size;
  for (size_t i = 0; i < prompt.size(); ++i) {
    if (prompt[i] < 0 || prompt[i] >= vocab_size) {
      throw ApiError::invalid(param, fmt::format("token id {} at index {} is outside the vocabulary of {}",
                                                 prompt[i], i, vocab_size));
    }
  }
  if (std::ssize(prompt) > served.max_length) {
    throw ApiError::invalid(
        param,
        fmt::format("the prompt of {} tokens is longer than the context of {}; shorten it", prompt.size(),
                    served.max_length),
        "context_length_exceeded");
  }
}

int64_t answer_tokens(const GenerationRequest& request, size_t prompt_tokens, int64_t fallback,
                      const ServedModel& served) {
  // The last token is drawn and never run, so that a full context has room for one.
  const int64_t room = served.max_length + 1 - static_cast<int64_t>(prompt_tokens);
  return std::min(request.max_tokens.value_or(fallback), room);
}

void note_unknown_fields(const RequestBody& body, Reporter& log) {
  constexpr size_t kMostNames = 1000;  // a client must not fill the memory with names
  static std::mutex mutex;
  static std::set<std::string> noted;
  for (const std::string& field : body.fields()) {
    if (std::ranges::find(kKnownFields, field) != std::end(kKnownFields)) continue;
    const std::lock_guard lock(mutex);
    if (noted.size() < kMostNames && noted.insert(field).second) {
      log.note(fmt::format("the field '{}' of a request is not known and ignored", one_line(field)));
    }
  }
}

}  // namespace tessera
