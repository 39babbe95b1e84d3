// Recipes: round trips, hostile JSON, and formats against a model.
#include "tessera/quant/recipe/recipe.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tessera/base/test_error.h"
#include "tessera/quant/passes/pass.h"

namespace tessera {
namespace {

using nlohmann::json;

#define EXPECT_ERROR(expression, text)                                           \
  EXPECT_NE(error_of([&] { (void)(expression); }).find(text), std::string::npos) \
      << error_of([&] { (void)(expression); })

ModelSpec llama(int64_t hidden, int64_t intermediate) {
  const json config = {
      {"architectures", {"LlamaForCausalLM"}}, {"vocab_size", 64},       {"hidden_size", hidden},
      {"intermediate_size", intermediate},     {"num_hidden_layers", 1}, {"num_attention_heads", 2},
      {"max_position_embeddings", 32}};
  return make_model_spec({config, "config.json"});
}

json minimal() {
  return {{"name", "mine"}, {"passes", {{{"pass", "rtn"}}}}};
}

TEST(Recipe, DefaultsToW4A8PerChannel) {
  const Recipe recipe = Recipe::from_json(minimal(), "r.json");
  EXPECT_EQ(recipe.scheme.weight, (WeightScheme{4, 0}));
  EXPECT_EQ(recipe.scheme.activation, (ActivationFormat{8, true, true}));
}

TEST(Recipe, SurvivesJson) {
  json value = minimal();
  value["weight"] = {{"bits", 4}, {"group_size", 64}};
  value["activation"] = {{"bits", 4}, {"symmetric", false}};
  value["overrides"] = {{"down_proj", {{"weight", {{"bits", 8}}}}}};
  const Recipe recipe = Recipe::from_json(value, "r.json");
  const Recipe copy = Recipe::from_json(recipe.to_json(), "copy");
  EXPECT_EQ(copy.to_json(), recipe.to_json());
  EXPECT_EQ(copy.scheme.weight, (WeightScheme{4, 64}));
  EXPECT_EQ(copy.scheme.activation, (ActivationFormat{4, false, true}));
  EXPECT_EQ(copy.scheme_of("down_proj").weight, (WeightScheme{8, 0}));
  EXPECT_EQ(copy.scheme_of("down_proj").activation, recipe.scheme.activation);
  EXPECT_EQ(copy.scheme_of("up_proj").weight, recipe.scheme.weight);
}

TEST(Recipe, RefusesHostileJson) {
  const std::pair<json, const char*> changes[] = {
      {{{"pases", 1}}, "unknown key 'pases'"},
      {{{"name", 3}}, "name: expected a string"},
      {{{"kv_bits", 5}}, "keys and values of 5 bits do not exist"},
      {{{"kv_bits", "4"}}, "kv_bits: expected an integer"},
      {{{"passes", json::array()}}, "passes: expected at least one pass"},
      {{{"passes", "rtn"}}, "passes: expected an array"},
      {{{"passes", {3}}}, "passes[0]: expected an object"},
      {{{"passes", {{{"pass", nullptr}}}}}, "has no name"},
      {{{"weight", 4}}, "weight: expected an object"},
      {{{"weight", {{"bits", 3}}}}, "3 weight bits"},
      {{{"weight", {{"bits", 4.5}}}}, "weight.bits: expected an integer"},
      {{{"weight", {{"bits", 4294967300}}}}, "weight.bits: 4294967300 is outside"},
      {{{"weight", {{"group_size", "128"}}}}, "weight.group_size: expected an integer"},
      {{{"weight", {{"bits", 8}, {"group_size", 128}}}}, "8-bit weights"},
      {{{"weight", {{"group", 128}}}}, "unknown key 'group'"},
      {{{"activation", {{"bits", 3}}}}, "bits"},
      {{{"weight", {{"bits", 8}, {"symmetric", false}}}}, "8-bit weights have no zero points"},
      {{{"weight", {{"symmetric", 0}}}}, "weight.symmetric: expected true or false"},
      {{{"summary", 3}}, "summary: expected a string"},
      {{{"overrides", json::array()}}, "overrides: expected an object"},
      {{{"overrides", {{"down_proj", 8}}}}, "overrides.down_proj: expected an object"},
      {{{"overrides", {{"down_proj", {{"bits", 8}}}}}}, "unknown key 'bits'"},
  };
  for (const auto& [change, text] : changes) {
    json value = minimal();
    value.update(change);
    EXPECT_ERROR(Recipe::from_json(value, "r.json"), text);
    EXPECT_ERROR(Recipe::from_json(value, "r.json"), "r.json");
  }
  for (const char* key : {"name", "passes"}) {
    json value = minimal();
    value.erase(key);
    EXPECT_ERROR(Recipe::from_json(value, "r.json"), key);
  }
  EXPECT_ERROR(Recipe::from_json(json::array(), "r.json"), "r.json: expected an object");
  EXPECT_ERROR(Recipe::load("/nonexistent/r.json"), "/nonexistent/r.json");
}

TEST(Recipe, NamesTheLinearThatAGroupSizeDoesNotDivide) {
  const ModelSpec spec = llama(128, 352);
  const Recipe recipe = Recipe::from_json(minimal(), "r.json");
  EXPECT_EQ(recipe.schemes(spec)[spec.id(kDown)].weight, (WeightScheme{4, 0}));
  EXPECT_EQ(recipe.with_weight(4, 32).schemes(spec)[spec.id(kDown)].weight, (WeightScheme{4, 32}));
  EXPECT_ERROR(
      recipe.with_weight(4, 64).schemes(spec),
      "does not divide the 352 inputs of mlp.down_proj; legal for every layer of this model: 32, 0 (");
  for (int64_t unknown : {256, 48, -128}) {
    EXPECT_ERROR(recipe.with_weight(4, unknown).schemes(spec),
                 "does not exist; legal for every layer of this model: 32, 0 (");
  }
  EXPECT_ERROR(recipe.with_weight(4, 128).schemes(llama(128, 172)),
               "legal for every layer of this model: 0 (");
  EXPECT_ERROR(recipe.with_weight(8, 32), "8-bit weights");
}

TEST(Recipe, RefusesOverridesThatMissTheModelOrSplitASite) {
  json value = minimal();
  value["overrides"] = {{"fc2", {{"weight", {{"bits", 8}}}}}};
  EXPECT_ERROR(Recipe::from_json(value, "r.json").schemes(llama(128, 352)),
               "override 'fc2' matches no linear");
  value["overrides"] = {{"k_proj", {{"activation", {{"bits", 4}}}}}};
  EXPECT_ERROR(Recipe::from_json(value, "r.json").schemes(llama(128, 352)), "share their input");
  value["overrides"] = {{"down_proj", {{"activation", {{"bits", 4}}}}}};
  const ModelSpec spec = llama(128, 352);
  const auto schemes = Recipe::from_json(value, "r.json").schemes(spec);
  EXPECT_EQ(schemes[spec.id(kDown)].activation.bits, 4);
  EXPECT_EQ(schemes[spec.id(kUp)].activation.bits, 8);
}

TEST(Recipe, TakesSettings) {
  json value = minimal();
  value["passes"] = {{{"pass", "smooth"}}, {{"pass", "gptq"}, {"clip", "mse"}}};
  const Recipe recipe = Recipe::from_json(value, "r.json");
  EXPECT_EQ(recipe.with_setting("gptq.damping=0.1").passes[1]["damping"], 0.1);
  EXPECT_EQ(recipe.with_setting("gptq.clip=none").passes[1]["clip"], "none");
  EXPECT_EQ(recipe.with_setting("gptq.act_order=false").passes[1]["act_order"], false);
  EXPECT_EQ(recipe.with_setting("smooth=off").passes, json::array({value["passes"][1]}));
  EXPECT_EQ(recipe.with_setting("tune=on").passes[2], json({{"pass", "tune"}}));
  EXPECT_EQ(recipe.with_setting("tune=on").with_setting("tune.steps=9").passes[2]["steps"], 9);
  EXPECT_EQ(recipe.with_settings({"tune.steps=9", "tune=on"}).to_json(),
            recipe.with_settings({"tune=on", "tune.steps=9"}).to_json());
  EXPECT_EQ(recipe.with_setting("weight.group_size=64").scheme.weight, (WeightScheme{4, 64}));
  EXPECT_FALSE(recipe.with_setting("activation.scale=static").scheme.activation.per_token);
  EXPECT_EQ(recipe.with_setting("kv_bits=4").kv_format, KvFormat::kInt4);
  EXPECT_TRUE(recipe.with_setting("lm_head=w8a8").lm_head_w8a8);

  EXPECT_ERROR(recipe.with_setting("rotate=off"), "setting 'rotate=off': changes nothing");
  EXPECT_ERROR(recipe.with_setting("gptq=on"), "changes nothing");
  EXPECT_ERROR(recipe.with_setting("gptq.clip=mse"), "changes nothing");
  EXPECT_ERROR(recipe.with_setting("rtn.clip=mse"), "changes nothing");
  EXPECT_ERROR(recipe.with_setting("gptq=fast"), "write weight.KEY=VALUE");
  EXPECT_ERROR(recipe.with_setting("gptq.clip"), "write weight.KEY=VALUE");
  EXPECT_ERROR(recipe.with_setting("kv_bits=5"), "setting 'kv_bits=5'");
  EXPECT_ERROR(recipe.with_setting("kv_bits=off"), "setting 'kv_bits=off': expected an integer");
  EXPECT_ERROR(recipe.with_setting("lm_head=w4a8"), "setting 'lm_head=w4a8'");
  EXPECT_ERROR(recipe.with_setting("weight.bits=3"), "3 weight bits");
  EXPECT_ERROR(recipe.with_setting("weight.size=5"), "unknown key 'size'");
  EXPECT_ERROR(recipe.with_setting("smooth=off").with_setting("gptq=off"), "expected at least one pass");
}

TEST(Recipe, SurvivesHostileLengthAndNesting) {
  const Recipe recipe = find_method("qqq");
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  EXPECT_ERROR(recipe.with_setting(std::string(100'000, 'a')), "write weight.KEY=VALUE");
  EXPECT_ERROR(recipe.with_setting("weight.bits=" + deep), "expected an integer");
  EXPECT_ERROR(recipe.with_setting("weight.bits=" + std::string(100'000, '1')), "expected an integer");
  EXPECT_ERROR(method_recipe(fmt::format("{}-g128", std::string(100'000, 'a'))), "is not known");
  EXPECT_EQ(method_recipe("qqq-g128").scheme.weight.group_size, 128);
}

TEST(Recipe, NamesItsFormats) {
  EXPECT_EQ(to_string(LinearScheme{}), "W4A8");
  EXPECT_EQ(to_string(LinearScheme{{4, 128, false}, {8, true, false}}),
            "W4A8 g128 zero points, static scales");
}

TEST(Methods, AreValidRecipes) {
  for (const Recipe& recipe : methods()) {
    EXPECT_EQ(&find_method(recipe.name), &recipe);
    EXPECT_EQ(Recipe::from_json(recipe.to_json(), recipe.name).to_json(), recipe.to_json());
    EXPECT_FALSE(recipe.summary.empty() || recipe.cost.empty()) << recipe.name;
    for (const json& step : recipe.passes) EXPECT_NO_THROW(make_pass(step)) << recipe.name;
  }
  EXPECT_ERROR(find_method("qqqq"), "qqq, qqq-rotation");
}

TEST(Recipe, MethodNamesTakeAGroupSize) {
  const Recipe recipe = method_recipe("qqq-g64");
  EXPECT_EQ(recipe.name, "qqq-g64");
  EXPECT_EQ(recipe.scheme.weight.group_size, 64);
  EXPECT_EQ(recipe.scheme.weight.bits, 4);
  EXPECT_EQ(recipe.passes, find_method("qqq").passes);
  EXPECT_EQ(method_recipe("qqq-rotation").name, "qqq-rotation");
  EXPECT_THROW(method_recipe("qqq-g63").schemes(llama(128, 352)), Error);
  EXPECT_THROW(method_recipe("qqq-g"), Error);
  EXPECT_THROW(method_recipe("unknown-g128"), Error);
}

TEST(Recipe, EightBitWeightsHaveNeitherGroupsNorZeroPoints) {
  const Recipe recipe = method_recipe("mix-qqq-dgq").with_weight(8, 0);
  EXPECT_EQ(recipe.scheme.weight, (WeightScheme{8, 0, true}));
}

TEST(Recipe, TheDefaultMethodFitsItsGroupsToTheModel) {
  const Recipe recipe = find_method(kDefaultMethod);
  const auto size = [&](int64_t hidden, int64_t intermediate) {
    const Recipe legal = recipe.with_legal_groups(llama(hidden, intermediate));
    EXPECT_NO_THROW(legal.schemes(llama(hidden, intermediate)));
    return legal.scheme.weight.group_size;
  };
  EXPECT_EQ(size(256, 512), 128);
  EXPECT_EQ(size(256, 320), 64);
  EXPECT_EQ(size(128, 352), 32);
  EXPECT_EQ(size(128, 344), 0);
}

TEST(Recipe, MethodNamesTakeSettings) {
  const Recipe recipe = method_recipe("qqq-g64+smooth=off+gptq.clip=none");
  EXPECT_EQ(recipe.name, "qqq-g64+smooth=off+gptq.clip=none");
  EXPECT_EQ(recipe.scheme.weight.group_size, 64);
  ASSERT_EQ(recipe.passes.size(), 1u);
  EXPECT_EQ(recipe.passes[0]["clip"], "none");
  EXPECT_EQ(method_recipe("rtn+weight.bits=8").scheme.weight.bits, 8);
  EXPECT_ERROR(method_recipe("rtn+smooth=off"), "setting 'smooth=off': changes nothing");
  EXPECT_ERROR(method_recipe("rtn++"), "setting ''");
}

}  // namespace
}  // namespace tessera
