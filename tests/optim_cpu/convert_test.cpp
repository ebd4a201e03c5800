#include "strata/optim_cpu/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "optim_cpu/number_conversions.h"

namespace strata::optim_cpu::convert_test {
namespace {

using Limits = std::numeric_limits<float>;

std::uint32_t bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }
float float_of(std::uint32_t bits) { return std::bit_cast<float>(bits); }

/// Every exponent and sign with mantissas around each place where a rounding changes its mind, and
/// many at random.
std::vector<float> boundary_and_random_floats() {
  std::vector<float> values;
  for (std::uint32_t top = 0; top < 0x200; ++top)
    for (const std::uint32_t middle : {0x000000u, 0x010000u, 0x3F0000u, 0x400000u, 0x7F0000u})
      for (const std::uint32_t low : {0x0000u, 0x0001u, 0x0FFFu, 0x1000u, 0x1001u, 0x3000u, 0x7FFFu,
                                      0x8000u, 0x8001u, 0xFFFFu})
        values.push_back(float_of((top << 23) | middle | low));
  std::mt19937 random(1);
  for (int i = 0; i < 1'000'000; ++i)
    values.push_back(float_of(static_cast<std::uint32_t>(random())));
  return values;
}

TEST(SplitMaster, KeepsEveryBitOfAMasterInHiAndLo) {
  const std::vector<float> masters = boundary_and_random_floats();
  std::vector<std::uint16_t> hi(masters.size());
  std::vector<std::int16_t> lo(masters.size());
  std::vector<float> restored(masters.size());
  split_master(Precision::kBf16, masters, hi.data(), lo.data());
  join_master(Precision::kBf16, hi.data(), lo.data(), restored);
  for (std::size_t i = 0; i < masters.size(); ++i) {
    if (std::isnan(masters[i])) {
      ASSERT_TRUE(std::isnan(from_bf16(hi[i]))) << std::hex << bits_of(masters[i]);
      ASSERT_EQ(bits_of(restored[i]), kQuietNan) << std::hex << bits_of(masters[i]);
    } else {
      ASSERT_EQ(bits_of(restored[i]), bits_of(masters[i])) << std::hex << bits_of(masters[i]);
    }
  }
}

TEST(SplitMaster, RoundsHiToNearestWithTiesAwayFromZero) {
  EXPECT_EQ(split_hi_lo(float_of(0x3F807FFF)).hi, 0x3F80);
  EXPECT_EQ(split_hi_lo(float_of(0x3F808000)).hi, 0x3F81);
  EXPECT_EQ(split_hi_lo(float_of(0xBF808000)).hi, 0xBF81);
  EXPECT_EQ(split_hi_lo(float_of(0x3F808000)).lo, std::numeric_limits<std::int16_t>::min());
  EXPECT_EQ(split_hi_lo(-0.0f).hi, 0x8000);
  EXPECT_EQ(split_hi_lo(-0.0f).lo, 0);
}

TEST(SplitMaster, KeepsTheLargestFloatThoughItsHiIsInfinite) {
  const HiLo largest = split_hi_lo(Limits::max());
  EXPECT_EQ(from_bf16(largest.hi), Limits::infinity());
  EXPECT_EQ(largest.lo, -1);
  EXPECT_EQ(join_hi_lo(largest), Limits::max());
  EXPECT_EQ(join_hi_lo(split_hi_lo(-Limits::infinity())), -Limits::infinity());
}

TEST(SplitMaster, GivesARoundedFp16CopyBesideTheMaster) {
  const std::vector<float> masters = {1.0f, 1.0f + 0x1p-11f, 1.0f + 0x3p-11f, 65520.0f, 1e-8f};
  std::vector<std::uint16_t> weights(masters.size());
  std::vector<float> kept(masters.size());
  split_master(Precision::kFp16, masters, weights.data(), kept.data());
  EXPECT_EQ(weights, (std::vector<std::uint16_t>{0x3C00, 0x3C00, 0x3C02, 0x7C00, 0x0000}));
  EXPECT_EQ(kept, masters);
  std::vector<float> restored(masters.size());
  join_master(Precision::kFp16, weights.data(), kept.data(), restored);
  EXPECT_EQ(restored, masters);
}

TEST(SplitMaster, KeepsOnlyTheRoundedWeightWhereThereIsNoPlaceForTheRest) {
  const std::vector<float> masters = {float_of(0x3F80C123), -2.5f, 0.0f};
  for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16}) {
    std::vector<std::byte> weights(masters.size() * weight_bytes(precision));
    std::vector<float> widened(masters.size());
    split_master(precision, masters, weights.data(), nullptr);
    join_master(precision, weights.data(), nullptr, widened);
    for (std::size_t i = 0; i < masters.size(); ++i)
      EXPECT_NEAR(widened[i], masters[i], std::abs(masters[i]) / 256) << name_of(precision);
    if (precision == Precision::kFp32) {
      EXPECT_EQ(widened, masters);
    }
  }
}

TEST(Bf16, RoundsToNearestWithTiesToEven) {
  EXPECT_EQ(to_bf16(float_of(0x3F808000)), 0x3F80);
  EXPECT_EQ(to_bf16(float_of(0x3F818000)), 0x3F82);
  EXPECT_EQ(to_bf16(float_of(0x3F808001)), 0x3F81);
  EXPECT_EQ(from_bf16(to_bf16(Limits::max())), Limits::infinity());
  EXPECT_TRUE(std::isnan(from_bf16(to_bf16(float_of(0xFFFFFFFF)))));
}

TEST(Fp16, SurvivesTheWayThroughFp32) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float widened = from_fp16(half);
    if ((bits & 0x7FFF) > 0x7C00) {
      EXPECT_TRUE(std::isnan(widened)) << std::hex << bits;
    } else {
      EXPECT_EQ(to_fp16(widened), half) << std::hex << bits;
    }
  }
}

TEST(Fp16, RoundsTheMiddleBetweenNeighboursToTheEvenOne) {
  for (std::uint16_t lower = 0; lower < 0x7BFF; ++lower) {
    const std::uint16_t upper = lower + 1;
    const float middle = (from_fp16(lower) + from_fp16(upper)) / 2;
    const std::uint16_t even = lower % 2 == 0 ? lower : upper;
    ASSERT_EQ(to_fp16(middle), even) << std::hex << lower;
    ASSERT_EQ(to_fp16(std::nextafter(middle, 0.0f)), lower) << std::hex << lower;
    ASSERT_EQ(to_fp16(std::nextafter(middle, 1e6f)), upper) << std::hex << lower;
    ASSERT_EQ(to_fp16(-middle), 0x8000 | even) << std::hex << lower;
  }
}

}  // namespace
}  // namespace strata::optim_cpu::convert_test
