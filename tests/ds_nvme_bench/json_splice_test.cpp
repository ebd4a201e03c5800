#include "json_splice.h"

#include <gtest/gtest.h>

namespace strata::nvme_bench::json_splice_test {
namespace {

TEST(JsonSplice, ReplacesOnlyTheValue) {
  EXPECT_EQ(with_member(R"({ "a":1,  "b" : [1, {"c": "}"}] , "d":2 })", "b", "7"),
            R"({ "a":1,  "b" : 7 , "d":2 })");
  EXPECT_EQ(with_member(R"({"a":1})", "a", "2"), R"({"a":2})");
}

TEST(JsonSplice, AddsAMemberInTheLayoutOfTheOthers) {
  EXPECT_EQ(with_member("{\n    \"a\": 1\n}\n", "b", "2"), "{\n    \"a\": 1,\n    \"b\": 2\n}\n");
  EXPECT_EQ(with_member(R"({"a": 1})", "b", "2"), R"({"a": 1, "b": 2})");
  EXPECT_EQ(with_member("{}", "b", "2"), R"({"b": 2})");
  EXPECT_EQ(with_member("{\n}\n", "b", "2"), "{\"b\": 2}\n");
}

TEST(JsonSplice, IsNotMisledByNamesInsideOfValues) {
  const std::string object = R"({"x": {"aio": 1}, "y": "\"aio\": 2", "z": ["aio"], "aio": 3})";
  EXPECT_EQ(member_of(object, "aio"), "3");
  EXPECT_EQ(member_of(object, "x"), R"({"aio": 1})");
  EXPECT_EQ(member_of(object, "none"), "");
}

TEST(JsonSplice, KnowsTheIndentation) {
  EXPECT_EQ(indentation_of("{\n\t\"a\": 1}"), "\t");
  EXPECT_EQ(indentation_of("\n\n  {\"a\": 1}"), "");
}

}  // namespace
}  // namespace strata::nvme_bench::json_splice_test
