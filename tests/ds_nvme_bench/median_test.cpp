#include "median.h"

#include <gtest/gtest.h>

namespace strata::tool::median_test {
namespace {

TEST(Median, IsTheMiddleOneOfAnOddNumberOfValuesInAnyOrder) {
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({9, 1, 4}), 4);
}

TEST(Median, IsTheMeanOfTheMiddleTwoOfAnEvenNumberOfValues) {
  EXPECT_EQ(median({4, 1}), 2.5);
  EXPECT_EQ(median({9, 1, 4, 2}), 3);
}

TEST(Median, OfNothingIsAnErrorOfTheCaller) { EXPECT_THROW((void)median({}), std::logic_error); }

}  // namespace
}  // namespace strata::tool::median_test
