#include "strata/formats/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "strata/base/error.h"
#include "support/message_of.h"

namespace strata::formats::json_test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

JsonValue parse(std::string_view text) {
  return JsonValue::parse(text, "file.json", JsonRole::kConfig);
}

/// The message of the ConfigError that `action` throws.
template <class Action>
std::string message_of(Action&& action) {
  return support::message_of<ConfigError>(std::forward<Action>(action));
}

TEST(Json, ReadsEveryTypeOfValue) {
  const auto root = parse(R"({"a": null, "b": true, "c": -3, "d": 2.5, "e": "x", "f": [1, 2]})");
  EXPECT_EQ(root.at("a").type(), JsonType::kNull);
  EXPECT_TRUE(root.at("b").as_bool());
  EXPECT_EQ(root.at("c").as_int64(), -3);
  EXPECT_EQ(root.at("d").as_double(), 2.5);
  EXPECT_EQ(root.at("e").as_string(), "x");
  ASSERT_EQ(root.at("f").elements().size(), 2u);
  EXPECT_EQ(root.at("f").elements()[1].as_uint64(), 2u);
  EXPECT_FALSE(root.find("g").has_value());
  EXPECT_EQ(root.members().size(), 6u);
  EXPECT_EQ(root.members()[4].key, "e");
}

TEST(Json, ValuesOutliveTheVariableTheyCameFrom) {
  auto member = parse(R"({"a": {"b": "still here"}})").at("a").at("b");
  EXPECT_EQ(member.as_string(), "still here");
}

TEST(Json, ReadsWholeNumbersHoweverTheyAreWritten) {
  const auto root = parse(R"([500000000, 5e8, 5.0E+8, 1.5, 1e16, 18446744073709551615])");
  const auto values = root.elements();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(values[i].as_int64(), 500'000'000);
  EXPECT_THAT(message_of([&] { (void)values[3].as_int64(); }), HasSubstr("whole number"));
  EXPECT_THAT(message_of([&] { (void)values[4].as_int64(); }), HasSubstr("too large"));
  EXPECT_THAT(message_of([&] { (void)values[5].as_int64(); }), HasSubstr("too large"));
  EXPECT_EQ(values[5].as_uint64(), UINT64_MAX);
  EXPECT_THAT(message_of([&] { (void)values[1].as_uint64(); }), HasSubstr("expected an integer"));
}

TEST(Json, KnowsTheLineOfEveryKeyAndValue) {
  const auto root = parse(
      "{\n"
      "  \"a\": 1\n"   // a number is followed by the line feed that ends it
      "  ,\"b\": [\n"  // line 3
      "    10,\n"
      "    11\n"
      "  ],\n"
      "\n"
      "  \"c\": {\"d\":\n"  // line 8; the value of d stands in the next one
      "   true}\n"
      "}\n");
  EXPECT_EQ(root.line(), 1u);
  EXPECT_EQ(root.at("a").line(), 2u);
  EXPECT_EQ(root.at("b").line(), 3u);
  EXPECT_EQ(root.at("b").elements()[0].line(), 4u);
  EXPECT_EQ(root.at("b").elements()[1].line(), 5u);
  EXPECT_EQ(root.at("c").at("d").line(), 8u);
}

TEST(Json, ErrorsOfTypeSayFileLinePathExpectedAndFound) {
  const auto root = parse("{\n \"a\": [{\"b\": \"fast\"}],\n \"x.y\": 3}");
  EXPECT_EQ(message_of([&] { (void)root.at("a").elements()[0].at("b").as_double(); }),
            "file.json:2: a[0].b: expected a number, found a string (\"fast\")");
  EXPECT_EQ(message_of([&] { (void)root.at("x.y").as_bool(); }),
            "file.json:3: \"x.y\": expected a boolean, found an integer (3)");
  EXPECT_EQ(message_of([&] { (void)root.at("missing"); }),
            "file.json:1: the key \"missing\" is missing");
}

TEST(Json, RoleDecidesTheTypeOfErrors) {
  EXPECT_THROW((void)JsonValue::parse("{", "x", JsonRole::kConfig), ConfigError);
  EXPECT_THROW((void)JsonValue::parse("{", "x", JsonRole::kData), DataError);
  EXPECT_THROW((void)JsonValue::parse("{}", "x", JsonRole::kData).as_bool(), DataError);
}

struct Refusal {
  std::string_view text;
  std::string_view words;
};

TEST(Json, RefusesWhatIsNotStrictJson) {
  const std::vector<Refusal> refusals = {
      {"", "unexpected end of input"},
      {"{", "unexpected end of input"},
      {"{\"a\": 1,}", "syntax error"},
      {"{'a': 1}", "invalid literal"},
      {"// comment\n{}", "syntax error"},
      {"{\"a\": NaN}", "syntax error"},
      {"{\"a\": 1e999}", "number overflow"},
      {"{} {}", "syntax error"},
      {"{\"a\": 01}", "syntax error"},
      {"{\"a\": \"\xff\"}", "invalid"},
      {"{\"a\": \"\x01\"}", "control character"},
      {std::string_view("{\"a\": \0}", 8), "syntax error"},
  };
  for (const auto& [text, words] : refusals) {
    EXPECT_THAT(message_of([&, text = text] { (void)parse(text); }),
                ::testing::AllOf(StartsWith("file.json:"), HasSubstr(words)))
        << text;
  }
}

TEST(Json, SyntaxErrorsNameLineAndColumn) {
  EXPECT_THAT(message_of([] { (void)parse("{\n  \"a\": tru\n}"); }), StartsWith("file.json:2:"));
}

TEST(Json, SyntaxErrorsDoNotRepeatTheText) {
  const std::string text = "{\"a\": \"" + std::string(10'000, 'x');
  EXPECT_LT(message_of([&] { (void)parse(text); }).size(), 300u);
}

TEST(Json, RefusesDuplicateKeysWhereverTheyAre) {
  EXPECT_THAT(message_of([] { (void)parse("{\"a\": 1, \"b\": 2,\n \"a\": 3}"); }),
              HasSubstr("file.json:2:"));
  EXPECT_THAT(message_of([] { (void)parse(R"([{"a": {"k": 1, "k": 1}}])"); }),
              HasSubstr("\"k\" stands twice"));
  EXPECT_THAT(message_of([] { (void)parse(R"({"a": 1, "\u0061": 1})"); }),
              HasSubstr("stands twice"));
  EXPECT_NO_THROW((void)parse(R"({"a": {"k": 1}, "b": {"k": 1}})"));
}

TEST(Json, HoldsItsLimits) {
  const JsonLimits limits = {.bytes_max = 40, .depth_max = 3, .values_max = 5};
  const auto parse_within = [&](std::string_view text) {
    return message_of([&] { (void)JsonValue::parse(text, "f", JsonRole::kConfig, limits); });
  };
  EXPECT_THAT(parse_within("[[[1]]]"), HasSubstr(support::kNothingThrown));
  EXPECT_THAT(parse_within("[[[[1]]]]"), HasSubstr("deeper than 3"));
  EXPECT_THAT(parse_within("[1, 2, 3, 4]"), HasSubstr(support::kNothingThrown));
  EXPECT_THAT(parse_within("[1, 2, 3, 4, 5]"), HasSubstr("more than 5 values"));
  EXPECT_THAT(parse_within(std::string(41, ' ')), HasSubstr("at most 40"));
}

TEST(Json, DoesNotRecurseOnDeepText) {
  const std::string text(1 << 20, '[');
  EXPECT_THAT(message_of([&] { (void)parse(text); }), HasSubstr("deeper than 16"));
}

}  // namespace
}  // namespace strata::formats::json_test
