#include "strata/optim_cpu/normal_numbers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "optim_cpu/dither.h"
#include "strata/base/error.h"

namespace strata::optim_cpu::normal_numbers_test {
namespace {

constexpr std::uint64_t kKey = 0x5EED0123456789AB;

std::vector<float> numbers_of(std::uint64_t key, std::uint64_t first, std::size_t count,
                              InstructionSet instructions = {}) {
  std::vector<float> numbers(count);
  normal_numbers(instructions, key, first, 1.0F, numbers);
  return numbers;
}

std::vector<std::uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<std::uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<std::uint32_t>(value));
  return bits;
}

TEST(NormalNumbers, HaveTheBitsOfTheReferenceOnEveryInstructionSet) {
  const auto expected = bits_of(numbers_of(kKey, 12345, 300'007, InstructionSet("SCALAR")));
  for (const std::string_view name : InstructionSet::names()) {
    EXPECT_EQ(bits_of(numbers_of(kKey, 12345, 300'007, InstructionSet(name))), expected) << name;
  }
}

TEST(NormalNumbers, AreForEachKeyThoseThatTheyAlwaysWere) {
  const std::vector<std::uint32_t> first = {0xBF6489E7, 0x3F095147, 0xBF0CF8BE, 0xBC309F1F};
  const std::vector<std::uint32_t> after_a_round = {0x3F51F523, 0x3FAD806C, 0xBEEEAD69, 0xBF368413};
  EXPECT_EQ(bits_of(numbers_of(kKey, 0, 4)), first);
  EXPECT_EQ(bits_of(numbers_of(kKey, std::uint64_t{1} << 32, 4)), after_a_round);
}

TEST(NormalNumbers, HaveInEveryPartTheBitsOfTheWhole) {
  const std::uint64_t first = (std::uint64_t{1} << 32) - 500;  // goes on after 2^32 elements
  const auto whole = bits_of(numbers_of(kKey, first, 1003));
  for (const std::size_t begin : {0u, 1u, 17u, 499u, 500u, 501u, 1002u}) {
    const auto part = bits_of(numbers_of(kKey, first + begin, 1003 - begin));
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + begin, whole.end())) << begin;
  }
  EXPECT_NE(numbers_of(kKey, 0, 100), numbers_of(kKey, std::uint64_t{1} << 32, 100));
}

TEST(NormalNumbers, AreThoseOfTheDistributionThatTheirRankAsks) {
  // Sorted, number i of n lies where the distribution has (i + 1/2) / n of its mass, up to
  // sqrt(p * (1 - p) / n), five times that is allowed.
  constexpr std::size_t kCount = 1 << 20;
  std::vector<float> numbers = numbers_of(kKey, 0, kCount);
  std::sort(numbers.begin(), numbers.end());
  for (std::size_t i = 0; i < kCount; i += 997) {
    const double mass = 0.5 * std::erfc(-numbers[i] * std::numbers::sqrt2 / 2);
    const double p = (static_cast<double>(i) + 0.5) / kCount;
    EXPECT_NEAR(mass, p, 5 * std::sqrt(p * (1 - p) / kCount)) << i;
  }
  EXPECT_LT(numbers.back(), 5.4F);
  EXPECT_GT(numbers.back(), 4.4F);
  EXPECT_LT(numbers.front(), -4.4F);
}

std::uint32_t mixed(std::uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7FEB352D;
  x = (x ^ (x >> 15)) * 0x846CA68B;
  return x ^ (x >> 16);
}

/// The uniform number behind an element, between -1 and 1.
double uniform_number(std::uint64_t key, std::uint32_t place) {
  const std::uint32_t inner = make_dither_key(key, 0), outer = make_dither_key(key, 1);
  const auto bits = std::bit_cast<std::int32_t>(mixed(mixed(place ^ inner) ^ outer));
  return ((bits >> 8) + 0.5) * 0x1p-23;
}

/// By Newton's method from a number close by, in double precision.
double inverse_of_erf(double x, double near) {
  double z = near;
  for (int i = 0; i < 4; ++i) {
    // erfc keeps its digits where erf is close to 1.
    const double too_small = x > 0 ? std::erfc(z) - (1 - x) : (1 + x) - std::erfc(-z);
    z += too_small * std::exp(z * z) / (2 * std::numbers::inv_sqrtpi);
  }
  return z;
}

TEST(NormalNumbers, HaveTheStatedInverseOfTheErrorFunction) {
  const std::vector<float> numbers = numbers_of(kKey, 0, 500'000);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const double x = uniform_number(kKey, static_cast<std::uint32_t>(i));
    const double expected =
        std::numbers::sqrt2 * inverse_of_erf(x, numbers[i] / std::numbers::sqrt2);
    ASSERT_NEAR(numbers[i], expected, 1e-6 * std::abs(expected)) << "x = " << x;
  }
}

double correlation(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum / static_cast<double>(a.size());
}

TEST(NormalNumbers, AreIndependentOfTheirNeighboursAndOfOtherSequences) {
  constexpr std::size_t kCount = 1 << 18;
  const double allowed = 5 / std::sqrt(static_cast<double>(kCount));
  const std::vector<float> numbers = numbers_of(kKey, 0, kCount);
  for (const std::uint64_t distance : {1u, 2u, 16u, 64u, 1u << 16, 1u << 31}) {
    EXPECT_NEAR(correlation(numbers, numbers_of(kKey, distance, kCount)), 0, allowed) << distance;
  }
  for (const std::uint64_t other : {kKey + 1, kKey ^ (std::uint64_t{1} << 63), std::uint64_t{0}}) {
    for (const std::uint64_t distance : {0u, 1u, 2u}) {
      EXPECT_NEAR(correlation(numbers, numbers_of(other, distance, kCount)), 0, allowed) << other;
    }
  }
}

TEST(NormalNumbers, ScaleWithTheDeviation) {
  std::vector<float> numbers(1000);
  normal_numbers({}, kKey, 0, 0.25F, numbers);
  const std::vector<float> ones = numbers_of(kKey, 0, 1000);
  for (std::size_t i = 0; i < 1000; ++i) EXPECT_EQ(numbers[i], 0.25F * ones[i]);
  EXPECT_THROW(normal_numbers({}, kKey, 0, std::numeric_limits<float>::infinity(), numbers),
               UsageError);
}

}  // namespace
}  // namespace strata::optim_cpu::normal_numbers_test
