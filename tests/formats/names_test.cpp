#include <gtest/gtest.h>

#include <array>
#include <string>

#include "formats/nearest_name.h"
#include "formats/quote.h"
#include "strata/formats/name_pattern.h"

namespace strata::formats::names_test {
namespace {

TEST(NamePattern, StarsStandForAnythingAndQuestionMarksForOneCharacter) {
  EXPECT_TRUE(matches_pattern("", ""));
  EXPECT_TRUE(matches_pattern("*", ""));
  EXPECT_TRUE(matches_pattern("a*c", "ac"));
  EXPECT_TRUE(matches_pattern("a*c", "abcbc"));
  EXPECT_TRUE(matches_pattern("**a**", "bab"));
  EXPECT_TRUE(matches_pattern("?.bias", "x.bias"));
  EXPECT_FALSE(matches_pattern("?.bias", ".bias"));
  EXPECT_FALSE(matches_pattern("a*c", "acb"));
  EXPECT_FALSE(matches_pattern("", "a"));
  EXPECT_FALSE(matches_pattern("abc", "ab"));
}

TEST(NamePattern, BracketsStandForOneOfTheCharactersInThem) {
  EXPECT_TRUE(matches_pattern("h.[0-3].*", "h.2.bias"));
  EXPECT_FALSE(matches_pattern("h.[0-3].*", "h.4.bias"));
  EXPECT_FALSE(matches_pattern("h.[0-3].*", "h.12.bias"));
  EXPECT_TRUE(matches_pattern("*[0-24ac-d]", "xx4"));
  EXPECT_TRUE(matches_pattern("*[0-24ac-d]", "xxd"));
  EXPECT_FALSE(matches_pattern("*[0-24ac-d]", "xx3"));
  EXPECT_TRUE(matches_pattern("[-a]", "-"));
  EXPECT_FALSE(matches_pattern("[]", "a"));
  EXPECT_TRUE(matches_pattern("[a", "[a"));
}

TEST(NamePattern, ManyStarsDoNotTakeForEver) {
  std::string pattern;
  for (int i = 0; i < 100; ++i) pattern += "*a";
  EXPECT_FALSE(matches_pattern(pattern + "b", std::string(10'000, 'a')));
}

TEST(NearestName, FindsMisspellingsAndNothingElse) {
  constexpr std::array<std::string_view, 4> kNames = {"lr", "betas", "weight_decay", "eps"};
  EXPECT_EQ(nearest_name("wieght_decay", kNames), "weight_decay");
  EXPECT_EQ(nearest_name("weight_deca", kNames), "weight_decay");
  EXPECT_EQ(nearest_name("rl", kNames), "lr");
  EXPECT_EQ(nearest_name("beta", kNames), "betas");
  EXPECT_EQ(nearest_name("momentum", kNames), "");
  EXPECT_EQ(nearest_name("", kNames), "");
  EXPECT_EQ(nearest_name(std::string(100'000, 'x'), kNames), "");
}

TEST(NearestName, AMisspelledNameIsNotJustAnotherWord) {
  constexpr std::array<std::string_view, 4> kNames = {"aio", "comms_logger", "gradient_clipping",
                                                      "bf16"};
  EXPECT_EQ(misspelled_name("aoi", kNames), "aio");
  EXPECT_EQ(misspelled_name("bfp16", kNames), "bf16");
  EXPECT_EQ(misspelled_name("gradient_cliping", kNames), "gradient_clipping");
  EXPECT_EQ(misspelled_name("comms_config", kNames), "");
  EXPECT_EQ(misspelled_name("io", kNames), "");
  EXPECT_EQ(misspelled_name("method", kNames), "");
}

TEST(Quote, MakesHostileTextFitForAMessage) {
  EXPECT_EQ(quote("plain"), "\"plain\"");
  EXPECT_EQ(quote("a\"b\\c"), "\"a\\\"b\\\\c\"");
  EXPECT_EQ(quote("\x1b[2J\n\xff"), "\"\\x1b[2J\\x0a\\xff\"");
  EXPECT_EQ(quote(std::string(101, 'x')), "\"" + std::string(100, 'x') + "...\"");
}

}  // namespace
}  // namespace strata::formats::names_test
