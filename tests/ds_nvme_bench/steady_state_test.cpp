#include "steady_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <vector>

namespace strata::nvme_bench::steady_state_test {
namespace {

using ::testing::HasSubstr;

std::vector<Window> windows_of(std::size_t count, const std::function<double(std::size_t)>& speed) {
  std::vector<Window> windows;
  for (std::size_t i = 0; i < count; ++i) {
    windows.push_back({.seconds = 0.1,
                       .bytes_read = 0,
                       .bytes_written = static_cast<std::uint64_t>(speed(i) * 0.1)});
  }
  return windows;
}

TEST(SteadyState, IsReachedByAConstantSpeed) {
  const SteadyState state = judge_steadiness(windows_of(60, [](std::size_t) { return 2e9; }));
  EXPECT_TRUE(state.reached);
  EXPECT_NEAR(state.bytes_per_second, 2e9, 1);
  EXPECT_FALSE(state.slowdown);
}

TEST(SteadyState, IsReachedInNoiseOfAFifth) {
  std::mt19937 random(7);
  std::uniform_real_distribution<double> luck(0.8, 1.2);
  const auto state =
      judge_steadiness(windows_of(100, [&](std::size_t) { return 2e9 * luck(random); }));
  EXPECT_TRUE(state.reached) << state.verdict;
  EXPECT_FALSE(state.slowdown);
}

TEST(SteadyState, IsNotReachedWhileTheSpeedFalls) {
  const auto state = judge_steadiness(
      windows_of(100, [](std::size_t i) { return 3e9 - 2e7 * static_cast<double>(i); }));
  EXPECT_FALSE(state.reached);
  EXPECT_LT(state.slope, -0.10);
  EXPECT_THAT(state.verdict, HasSubstr("not steady"));
}

TEST(SteadyState, TellsWhenAFullCacheSlowedTheDriveDown) {
  const auto state =
      judge_steadiness(windows_of(100, [](std::size_t i) { return i < 40 ? 5e9 : 1.5e9; }));
  ASSERT_TRUE(state.slowdown);
  EXPECT_NEAR(state.slowdown->seconds, 4.0, 1e-6);
  EXPECT_NEAR(static_cast<double>(state.slowdown->bytes_before), 20e9, 1e3);
  EXPECT_NEAR(state.slowdown->bytes_per_second_after, 1.5e9, 1);
  EXPECT_TRUE(state.reached) << "it is steady since";
  EXPECT_NEAR(state.bytes_per_second, 1.5e9, 1);
  EXPECT_THAT(state.verdict, HasSubstr("slowed down from 5.00 to 1.50 GB/s after 4.0 s"));
}

TEST(SteadyState, IsNotReachedWhenTheDriveSlowsDownNearTheEnd) {
  const auto state =
      judge_steadiness(windows_of(100, [](std::size_t i) { return i < 85 ? 5e9 : 1.5e9; }));
  EXPECT_FALSE(state.reached);
  EXPECT_TRUE(state.slowdown);
}

TEST(SteadyState, AShortDipIsNoSlowdown) {
  const auto state = judge_steadiness(
      windows_of(100, [](std::size_t i) { return i >= 40 && i < 44 ? 1e9 : 5e9; }));
  EXPECT_FALSE(state.slowdown);
  EXPECT_TRUE(state.reached);
}

TEST(SteadyState, SaysSoWhenTooShortOrWithoutProgress) {
  EXPECT_THAT(judge_steadiness({}).verdict, HasSubstr("too short"));
  EXPECT_THAT(judge_steadiness(windows_of(5, [](std::size_t) { return 1e9; })).verdict,
              HasSubstr("too short"));
  const auto stuck = judge_steadiness(windows_of(50, [](std::size_t) { return 0.0; }));
  EXPECT_FALSE(stuck.reached);
  EXPECT_THAT(stuck.verdict, HasSubstr("nothing was moved"));
}

}  // namespace
}  // namespace strata::nvme_bench::steady_state_test
