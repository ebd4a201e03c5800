#include "plural.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace strata::tool::plural_test {
namespace {

TEST(Plural, OnlyOneIsCountedWithoutAnS) {
  EXPECT_EQ(counted(0, "step"), "0 steps");
  EXPECT_EQ(counted(1, "step"), "1 step");
  EXPECT_EQ(counted(std::uint64_t{2}, "step"), "2 steps");
  EXPECT_EQ(plural(std::uint64_t{1}, "token"), "token");
  EXPECT_EQ(plural(21, "token"), "tokens");
}

}  // namespace
}  // namespace strata::tool::plural_test
