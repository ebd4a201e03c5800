#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "strata/base/error.h"
#include "strata/formats/json.h"
#include "support/message_of.h"

/// \file
/// The language that DeepSpeed's config is written in. What is expected of a text is what Python's
/// hjson 3.1 makes of it, unless a test says otherwise.

namespace strata::formats::hjson_test {
namespace {

using support::message_of;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

JsonValue parse(std::string_view text) {
  return JsonValue::parse(text, "ds.json", JsonRole::kHjsonConfig);
}

std::string error_of(std::string_view text) {
  return support::message_of<ConfigError>([&] { (void)parse(text); });
}

/// A value as strict JSON, texts in single quotes.
std::string shown(const JsonValue& value) {
  std::string text;
  switch (value.type()) {
    case JsonType::kNull: return "null";
    case JsonType::kBoolean: return value.as_bool() ? "true" : "false";
    case JsonType::kInteger: return std::to_string(value.as_int64());
    case JsonType::kNumber: return std::to_string(value.as_double());
    case JsonType::kString: return "'" + value.as_string() + "'";
    case JsonType::kArray:
      for (const JsonValue& element : value.elements()) {
        text.append(text.empty() ? "" : ",").append(shown(element));
      }
      return "[" + text + "]";
    case JsonType::kObject:
      for (const auto& [key, member] : value.members()) {
        text.append(text.empty() ? "" : ",").append(key).append(":").append(shown(member));
      }
      return "{" + text + "}";
  }
  return "?";
}

struct Reading {
  std::string_view text;
  std::string_view value;
};

TEST(Hjson, ReadsWhatDeepSpeedReads) {
  const std::vector<Reading> readings = {
      // JSON as it is
      {R"({"a": [1, -2.5, true, false, null, "x\u00e9\ud83d\ude00\n"], "b": {}, "c": []})",
       "{a:[1,-2.500000,true,false,null,'x\xC3\xA9\xF0\x9F\x98\x80\n'],b:{},c:[]}"},
      {"\xEF\xBB\xBF{\"a\": 1}", "{a:1}"},
      // comments
      {"# one\n{ // two\n \"a\": 1, /* three\n */ \"b\": 2 # four\n} // five", "{a:1,b:2}"},
      {"{\"a\": true // yes\n}", "{a:true}"},
      {"{\"a\": 5/* five */}", "{a:5}"},
      {R"({"a": "# no // comment /* here */"})", "{a:'# no // comment /* here */'}"},
      // commas
      {"{\"a\": [1, 2,],}", "{a:[1,2]}"},
      {"{\"a\": 1\n \"b\": \"x\" \"c\": [1\n2]}", "{a:1,b:'x',c:[1,2]}"},
      // braces, keys and texts without quotes
      {"a: 1\nb: {c: x}\n}", "{a:1,b:{c:'x}'}}"},
      {"a: 1\n'b c': two words  \nd.e: 3", "{a:1,b c:'two words',d.e:3}"},
      {"{type: AdamW\n lr: 1e-4}", "{type:'AdamW',lr:0.000100}"},
      {"{a: Infinity,\n b: 1}", "{a:'Infinity,',b:1}"},
      {"{a: 01\n b: 1.\n c: -\n d: 1e\n e: trueish\n f: nul}\n}",
       "{a:'01',b:'1.',c:'-',d:'1e',e:'trueish',f:'nul}'}"},
      {"{a: 1 2\n}", "{a:'1 2'}"},
      {"{a: true ,b:null }", "{a:true,b:null}"},
      {"{a: x # no comment\n}", "{a:'x # no comment'}"},
      // other quotes
      {R"({'a': 'it\'s "so"', "b": "it's"})", "{a:'it's \"so\"',b:'it's'}"},
      {"{\n a: '''one\n     two'''\n}", "{a:'one\n two'}"},
      {"{\n  a:\n    '''\n    one\n      two\n    '''\n}", "{a:'one\n  two'}"},
      {"{a: ''''''}", "{a:''}"},
      {"# nothing but a list\n[a\nb]\n]", "['a','b]']"},
      {"{a: 1e3, b: 5E+8, c: 123456789012345678}",
       "{a:1000.000000,b:500000000.000000,c:123456789012345678}"},
      {"{\r\n  a: x\r\n  b: 1\r\n}\r\n", "{a:'x',b:1}"},
  };
  for (const auto& [text, value] : readings) {
    ASSERT_EQ(error_of(text), support::kNothingThrown) << text;
    EXPECT_EQ(shown(parse(text)), value) << text;
  }
}

struct Refusal {
  std::string_view text;
  std::string_view begin;
  std::string_view words;
};

TEST(Hjson, RefusesWithThePlaceAndTheReason) {
  const std::vector<Refusal> refusals = {
      // An empty file is {} to DeepSpeed, but then no config of a run.
      {"", "ds.json:1:1: ", "no key"},
      {" # only a comment\n", "ds.json:2:1: ", "{} stands for all defaults"},
      {"{", "ds.json:1:2: ", "inside the object that begins in line 1"},
      {"{\n\"a\": [1, 2\n", "ds.json:3:1: ", "inside the array that begins in line 2"},
      {"{\"a\": 1}\n```", "ds.json:2:1: ", "more text behind the end of the config: \"```\""},
      {"{\"a\": 1} {}", "ds.json:1:10: ", "more text"},
      {"{\"a\": 1}}", "ds.json:1:9: ", "more text"},
      {"{\"a\": 1,, \"b\": 2}", "ds.json:1:9: ", "expected a key, found \",\""},
      {"{\"a\": [1,,2]}", "ds.json:1:10: ", "expected a value, found \",\""},
      {"{\"a\": }", "ds.json:1:7: ", "expected a value, found \"}\""},
      {"{\"a\" 1}", "ds.json:1:6: ", "expected a colon"},
      {"{a b: 1}", "ds.json:1:4: ", "expected a colon"},
      {"{: 1}", "ds.json:1:2: ", "expected a key"},
      {"{\"a\": \"x\n\"}", "ds.json:1:7: ", "not closed in its line"},
      {"{\"a\": '''x", "ds.json:1:7: ", "not closed"},
      {"{\"a\": 1 /* x }", "ds.json:1:9: ", "the comment that begins here is not closed"},
      {R"({"a": "\x"})", "ds.json:1:9: ", "backslash"},
      {R"({"a": "\u12"})", "ds.json:1:10: ", "four hexadecimal digits"},
      {R"({"a": "\ud800"})", "ds.json:1:14: ", "surrogate"},
      {"{\"a\": 1e999}", "ds.json:1:7: ", "\"1e999\" is too large"},
      {"{\"a\": \"\xff\"}", "ds.json:1:8: ", "not UTF-8"},
      {"{\"a\": \"\xed\xa0\x80\"}", "ds.json:1:8: ", "not UTF-8"},
      {"{\"a\": \"\x01\"}", "ds.json:1:8: ", "control character"},
      {std::string_view("{\"a\": \0}", 8), "ds.json:1:7: ", "control character"},
      {"{a: 1\n a: 2}", "ds.json:2:2: ", "the key \"a\" stands twice"},
      {"3", "ds.json:1:2: ", "expected a colon"},
  };
  for (const auto& [text, begin, words] : refusals) {
    EXPECT_THAT(error_of(text),
                AllOf(StartsWith(std::string(begin)), HasSubstr(std::string(words))))
        << text;
  }
}

TEST(Hjson, SaysThatAValueWithoutQuotesTookTheClosingBrace) {
  EXPECT_THAT(error_of("{\n\"type\": AdamW}"),
              AllOf(StartsWith("ds.json:2:"), HasSubstr("the value in line 2 has no quotes"),
                    HasSubstr("\"AdamW}\"")));
}

TEST(Hjson, KnowsTheLineOfEveryKey) {
  const JsonValue root = parse("# c\n{\n /* c\n c */ a: 1\n\n b: '''x\ny'''\n c: 2\n}");
  EXPECT_EQ(root.line(), 2u);
  EXPECT_EQ(root.at("a").line(), 4u);
  EXPECT_EQ(root.at("b").line(), 6u);
  EXPECT_EQ(root.at("c").line(), 8u);
}

TEST(Hjson, HoldsItsLimits) {
  const JsonLimits limits = {.bytes_max = 40, .depth_max = 3, .values_max = 5};
  const auto parse_within = [&](std::string_view text) {
    return message_of<ConfigError>(
        [&] { (void)JsonValue::parse(text, "f", JsonRole::kHjsonConfig, limits); });
  };
  EXPECT_EQ(parse_within("[[[1]]]"), support::kNothingThrown);
  EXPECT_THAT(parse_within("[[[[1]]]]"), HasSubstr("deeper than 3"));
  EXPECT_THAT(parse_within("[1, 2, 3, 4, 5]"), HasSubstr("more than 5 values"));
  EXPECT_THAT(parse_within(std::string(41, ' ')), HasSubstr("at most 40"));
  EXPECT_THAT(error_of(std::string(1 << 20, '[')), HasSubstr("deeper than 16"));
}

TEST(Hjson, IsOnlyForTheConfig) {
  for (const JsonRole role : {JsonRole::kConfig, JsonRole::kData}) {
    EXPECT_THROW((void)JsonValue::parse("{\"a\": 1,}", "x", role), Error);
    EXPECT_THROW((void)JsonValue::parse("{} // x", "x", role), Error);
  }
}

}  // namespace
}  // namespace strata::formats::hjson_test
