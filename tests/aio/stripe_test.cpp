#include "strata/aio/stripe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <vector>

namespace strata::aio::stripe_test {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;

std::vector<double> shares_for(std::vector<PathBandwidth> paths) {
  std::vector<double> shares(paths.size());
  shares_of(paths, shares);
  return shares;
}

std::vector<double> limited(std::vector<double> shares, std::vector<double> ceilings) {
  limit_shares(shares, ceilings);
  return shares;
}

auto near(double value) { return DoubleNear(value, 1e-9); }

// ---- shares ----------------------------------------------------------------------------------

TEST(SharesOf, AreInProportionToTheTimeOfAStepOnEachPath) {
  EXPECT_THAT(shares_for({{2e9, 2e9}, {6e9, 6e9}}), ElementsAre(near(0.25), near(0.75)));
  // 14 bytes read at 7 and 12 written at 3 take 6; at 14 and 6 they take 3.
  EXPECT_THAT(shares_for({{7e9, 3e9}, {14e9, 6e9}}), ElementsAre(near(1.0 / 3), near(2.0 / 3)));
}

TEST(SharesOf, AreEqualWhileABandwidthIsUnknown) {
  EXPECT_THAT(shares_for({{2e9, 2e9}, {6e9, 0}}), ElementsAre(0.5, 0.5));
  EXPECT_THAT(shares_for({{}}), ElementsAre(1.0));
}

TEST(SharesOf, LeaveNoPathWithoutWork) {
  const auto shares = shares_for({{1, 1}, {1e10, 1e10}, {1e10, 1e10}});
  EXPECT_THAT(shares[0], DoubleNear(kShareMin, kShareMin / 10));
  EXPECT_THAT(shares[0] + shares[1] + shares[2], near(1));
}

TEST(LimitShares, GivesToTheOthersWhatDoesNotFit) {
  EXPECT_THAT(limited({0.5, 0.5}, {0.6, 0.7}), ElementsAre(near(0.5), near(0.5)));
  EXPECT_THAT(limited({0.8, 0.2}, {0.6, 0.7}), ElementsAre(near(0.6), near(0.4)));
  EXPECT_THAT(limited({0.8, 0.1, 0.1}, {0.5, 0.2, 1}), ElementsAre(near(0.5), near(0.2), near(0.3)))
      << "what the first cannot take overflows the second";
  EXPECT_THAT(limited({0.5, 0.5}, {0.3, 0.3}), ElementsAre(near(0.3), near(0.3)));
}

// ---- the deal --------------------------------------------------------------------------------

class Deal : public testing::TestWithParam<std::vector<double>> {};

TEST_P(Deal, GivesEveryPathItsShareOfAnyRun) {
  const std::vector<double>& shares = GetParam();
  constexpr std::uint64_t kLong = 2048;
  double off_max = 0;
  for (std::uint64_t start = 0; start < 3000; start += 37) {
    std::vector<double> chunks(shares.size());
    for (std::uint64_t run = 1; run <= kLong; ++run) {
      chunks[path_at(start + run - 1, shares)] += 1;
      for (std::size_t i = 0; i < shares.size(); ++i) {
        off_max = std::max(off_max, std::abs(chunks[i] - shares[i] * static_cast<double>(run)));
      }
    }
  }
  EXPECT_LT(off_max, 4.5);
}

INSTANTIATE_TEST_SUITE_P(
    Shares, Deal,
    testing::Values(std::vector{1.0}, std::vector{0.5, 0.5}, std::vector{0.8, 0.2},
                    std::vector{0.44, 0.56}, std::vector{1.0 / 3, 1.0 / 3, 1.0 / 3},
                    std::vector{0.7, 0.1, 0.2}, std::vector{0.25, 0.25, 0.25, 0.25},
                    std::vector{kShareMin, 1 - kShareMin}),
    [](const auto& param_info) { return "Vector" + std::to_string(param_info.index); });

TEST(PathAt, TakesStrictTurnsBetweenEqualPaths) {
  const std::vector<double> two{0.5, 0.5}, four{0.25, 0.25, 0.25, 0.25};
  for (std::uint64_t i = 0; i < 1000; ++i) {
    EXPECT_EQ(path_at(i, two), i % 2);
    EXPECT_EQ(path_at(i, four), path_at(i + 4, four));
    EXPECT_NE(path_at(i, four), path_at(i + 1, four));
  }
}

TEST(PathAt, ChangesAboutAsManyPlacesAsTheSharesChange) {
  const std::vector<double> before{0.5, 0.5}, after{0.44, 0.56};
  int changed = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    if (path_at(i, before) != path_at(i, after)) ++changed;
  }
  EXPECT_NEAR(changed, 60, 3);
}

TEST(PathAt, KnowsPositionsBeyondAnyStore) {
  const std::vector<double> shares{0.5, 0.25, 0.25};
  for (const std::uint64_t position : {~0ull, 1ull << 63, (1ull << 63) - 1}) {
    EXPECT_LT(path_at(position, shares), shares.size());
  }
}

// ---- the balancer ----------------------------------------------------------------------------

/// Paths of known bandwidth with a clock of their own, moving their shares of a step's bytes.
class BalancerTest : public testing::Test {
 protected:
  static constexpr double kStepBytes = 4e9;  // about a second on one path

  void step(const std::vector<double>& bandwidth) {
    for (std::size_t i = 0; i < meters_.size(); ++i) {
      move(i, OpKind::kRead, kStepBytes * 14 / 26, bandwidth[i]);
      move(i, OpKind::kWrite, kStepBytes * 12 / 26, bandwidth[i]);
      totals_[i] = meters_[i].totals();
    }
    if (balancer_.observe(totals_)) ++changes_;
  }
  void steps(int count, const std::vector<double>& bandwidth) {
    for (int i = 0; i < count; ++i) step(bandwidth);
  }

  std::vector<PathMeter> meters_{2};
  std::vector<PathTotals> totals_{2};
  StripeBalancer balancer_{std::vector<PathBandwidth>{{4e9, 4e9}, {4e9, 4e9}}};
  int changes_ = 0;

 private:
  void move(std::size_t path, OpKind kind, double bytes, double bandwidth) {
    const double share = balancer_.shares()[path];
    meters_[path].begin(kind, now_);
    now_ += std::chrono::nanoseconds(static_cast<std::int64_t>(bytes * share / bandwidth * 1e9));
    meters_[path].end(kind, static_cast<std::uint64_t>(bytes * share), now_);
  }
  Time now_{};
};

TEST_F(BalancerTest, LeavesSharesThatAreRightAlone) {
  steps(50, {4e9, 4e9});
  EXPECT_EQ(changes_, 0);
}

TEST_F(BalancerTest, TakesWorkFromAPathThatHasBecomeSlowAndGivesItBack) {
  steps(10, {1e9, 4e9});
  EXPECT_THAT(balancer_.shares()[0], DoubleNear(0.2, 0.03));
  EXPECT_LE(changes_, 3);
  steps(10, {4e9, 4e9});
  EXPECT_THAT(balancer_.shares()[0], DoubleNear(0.5, 0.05));
}

TEST_F(BalancerTest, IgnoresASingleSampleHoweverFarOff) {
  for (const double bandwidth : {1e6, 4e12}) {
    step({bandwidth, 4e9});
    steps(5, {4e9, 4e9});
  }
  EXPECT_EQ(changes_, 0);
}

TEST_F(BalancerTest, IgnoresNoiseAndSmallLastingDifferences) {
  for (int i = 0; i < 20; ++i) {
    step({2e9, 4e9});
    step({8e9, 4e9});
  }
  steps(20, {3.4e9, 4e9});
  EXPECT_EQ(changes_, 0);
}

TEST_F(BalancerTest, IgnoresWhatSlowsAllPathsAlike) {
  steps(20, {1e9, 1e9});
  EXPECT_EQ(changes_, 0);
}

TEST_F(BalancerTest, ChangesNothingBeforeEveryPathHasBeenBusyForLongEnough) {
  for (int i = 0; i < 1000; ++i) {
    totals_[0].bytes[0] += 1'000'000;
    totals_[0].busy[0] += std::chrono::seconds(1);  // a thousandth of what it should be
    EXPECT_FALSE(balancer_.observe(totals_));
  }
  totals_[1].bytes[0] += 4'000'000;
  totals_[1].busy[0] += std::chrono::milliseconds(1);
  EXPECT_FALSE(balancer_.observe(totals_));
}

TEST_F(BalancerTest, LearnsTheSharesOfPathsThatWereNeverTried) {
  balancer_ = StripeBalancer(std::vector<PathBandwidth>(2));
  EXPECT_THAT(balancer_.shares(), ElementsAre(0.5, 0.5));
  steps(6, {6e9, 2e9});
  EXPECT_THAT(balancer_.shares()[0], DoubleNear(0.75, 0.03));
}

TEST_F(BalancerTest, TakesBandwidthsThatItIsTold) {
  balancer_.reset(std::vector<PathBandwidth>{{1e9, 1e9}, {3e9, 3e9}});
  EXPECT_THAT(balancer_.shares(), ElementsAre(near(0.25), near(0.75)));
}

}  // namespace
}  // namespace strata::aio::stripe_test
