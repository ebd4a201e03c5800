#include "strata/optim_cpu/sum_of_squares.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace strata::optim_cpu::sum_of_squares_test {
namespace {

SumOfSquares sum_of(const std::vector<double>& blocks) {
  SumOfSquares sum;
  for (const double block : blocks) sum.add(block);
  return sum;
}

/// Sums of blocks as a gradient has them, or spread over all that there can be.
std::vector<double> random_blocks(std::uint32_t seed, std::size_t count, int exponents) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> mantissa(1, 2);
  std::uniform_int_distribution<int> exponent(-exponents, exponents);
  std::vector<double> blocks(count);
  for (double& block : blocks) block = std::ldexp(mantissa(random), exponent(random));
  return blocks;
}

TEST(SumOfSquares, HasTheSameBitsInEveryOrderAndEveryGrouping) {
  std::mt19937 random(1);
  for (const int exponents : {0, 5, 60, 240}) {
    std::vector<double> blocks = random_blocks(2, 5000, exponents);
    const SumOfSquares expected = sum_of(blocks);
    for (int again = 0; again < 20; ++again) {
      std::shuffle(blocks.begin(), blocks.end(), random);
      const auto cut = blocks.begin() + static_cast<std::ptrdiff_t>(random() % blocks.size());
      SumOfSquares sum = sum_of({cut, blocks.end()});
      sum.add(sum_of({blocks.begin(), cut}));
      ASSERT_EQ(sum, expected);
      ASSERT_EQ(sum.value(), expected.value());
    }
  }
}

TEST(SumOfSquares, OfOneBlockIsThatBlock) {
  for (const double block : random_blocks(3, 2000, 290)) {
    ASSERT_EQ(sum_of({block}).value(), block);
  }
  EXPECT_EQ(sum_of({0x1p-298}).value(), 0x1p-298);
  EXPECT_EQ(sum_of({0x1.fffffffffffffp300}).value(), 0x1.fffffffffffffp300);
}

TEST(SumOfSquares, OfTwoBlocksRoundsAsAnAdditionDoes) {
  for (const int exponents : {2, 30, 60, 240}) {
    const std::vector<double> blocks = random_blocks(4, 20'000, exponents);
    for (std::size_t i = 0; i + 1 < blocks.size(); ++i)
      ASSERT_EQ(sum_of({blocks[i], blocks[i + 1]}).value(), blocks[i] + blocks[i + 1]);
  }
}

TEST(SumOfSquares, RoundsTiesToEvenAndLooksAtTheLowestBits) {
  EXPECT_EQ(sum_of({1.0, 0x1p-53}).value(), 1.0);
  EXPECT_EQ(sum_of({1.0, 0x1p-53, 0x1p-298}).value(), 1.0 + 0x1p-52);
  EXPECT_EQ(sum_of({1.0 + 0x1p-52, 0x1p-53}).value(), 1.0 + 0x1p-51);
}

TEST(SumOfSquares, KeepsWhatDoublesLose) {
  SumOfSquares sum = sum_of({0x1p100});
  for (int i = 0; i < 1 << 16; ++i) sum.add(0x1p32);
  EXPECT_EQ(sum.value(), 0x1p100 + 0x1p48);
  EXPECT_EQ(0x1p100 + 0x1p32, 0x1p100);  // one by one they would vanish
}

TEST(SumOfSquares, CarriesThroughEveryWord) {
  SumOfSquares sum;
  for (int exponent = -298; exponent < 300; ++exponent) sum.add(std::ldexp(1.0, exponent));
  EXPECT_EQ(sum.value(), 0x1p300);  // all ones below, rounded up
  sum.add(0x1p-298);
  EXPECT_EQ(sum, sum_of({0x1p300}));
}

TEST(SumOfSquares, OfNothingIsZero) {
  EXPECT_EQ(SumOfSquares().value(), 0.0);
  EXPECT_EQ(sum_of({0.0, 0.0}), SumOfSquares());
}

TEST(SumOfSquares, RemembersInfinityAndNan) {
  using Limits = std::numeric_limits<double>;
  SumOfSquares sum = sum_of({1.0, Limits::infinity(), 2.0});
  EXPECT_FALSE(sum.finite());
  EXPECT_EQ(sum.value(), Limits::infinity());
  SumOfSquares other = sum_of({Limits::quiet_NaN()});
  other.add(sum);
  EXPECT_FALSE(other.finite());
  EXPECT_TRUE(std::isnan(other.value()));
  EXPECT_TRUE(sum_of({1.0, 2.0}).finite());
}

}  // namespace
}  // namespace strata::optim_cpu::sum_of_squares_test
