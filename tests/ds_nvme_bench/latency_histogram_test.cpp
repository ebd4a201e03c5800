#include "latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace strata::nvme_bench::latency_histogram_test {
namespace {

using std::chrono::nanoseconds;

std::vector<std::int64_t> random_latencies(std::size_t count, unsigned seed) {
  std::mt19937_64 random(seed);
  std::lognormal_distribution<double> latency(11, 1.5);  // around 60 us, with a long tail
  std::vector<std::int64_t> values(count);
  for (auto& value : values) value = static_cast<std::int64_t>(latency(random));
  return values;
}

TEST(LatencyHistogram, GivesPercentilesOfRandomSamplesWithinItsResolution) {
  for (const unsigned seed : {1u, 2u, 3u}) {
    std::vector<std::int64_t> values = random_latencies(20'000, seed);
    LatencyHistogram histogram;
    for (const auto value : values) histogram.add(nanoseconds(value));
    std::sort(values.begin(), values.end());
    for (const double percent : {0.0, 1.0, 50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 100.0}) {
      const auto rank = std::max(1.0, std::ceil(percent / 100 * 20'000 - 1e-9));
      const auto exact = static_cast<double>(values[static_cast<std::size_t>(rank) - 1]);
      const auto given = static_cast<double>(histogram.percentile(percent).count());
      EXPECT_GE(given, exact) << percent;
      EXPECT_LE(given, exact * (1 + 1.0 / 64) + 1) << percent;
    }
  }
}

TEST(LatencyHistogram, KeepsCountMinimumMaximumMeanAndDeviationExactly) {
  const std::vector<std::int64_t> values = random_latencies(5'000, 4);
  LatencyHistogram histogram;
  double sum = 0;
  for (const auto value : values) {
    histogram.add(nanoseconds(value));
    sum += static_cast<double>(value);
  }
  const double mean = sum / 5'000;
  double squares = 0;
  for (const auto value : values) squares += std::pow(static_cast<double>(value) - mean, 2);
  EXPECT_EQ(histogram.count(), 5'000u);
  EXPECT_EQ(histogram.min().count(), *std::min_element(values.begin(), values.end()));
  EXPECT_EQ(histogram.max().count(), *std::max_element(values.begin(), values.end()));
  EXPECT_NEAR(histogram.mean_ns(), mean, mean * 1e-9);
  EXPECT_NEAR(histogram.stddev_ns(), std::sqrt(squares / 4'999), mean * 1e-6);
}

TEST(LatencyHistogram, IsTheSameWhenMergedFromParts) {
  LatencyHistogram whole, first, second;
  const std::vector<std::int64_t> values = random_latencies(1'000, 5);
  for (std::size_t i = 0; i < values.size(); ++i) {
    whole.add(nanoseconds(values[i]));
    (i % 3 == 0 ? first : second).add(nanoseconds(values[i]));
  }
  first.merge(second);
  EXPECT_EQ(first.count(), whole.count());
  EXPECT_EQ(first.min(), whole.min());
  EXPECT_EQ(first.max(), whole.max());
  for (const double percent : {1.0, 50.0, 99.0, 100.0}) {
    EXPECT_EQ(first.percentile(percent), whole.percentile(percent));
  }
}

TEST(LatencyHistogram, SaysZeroWhenItHoldsNothing) {
  const LatencyHistogram histogram;
  EXPECT_EQ(histogram.percentile(50).count(), 0);
  EXPECT_EQ(histogram.min().count(), 0);
  EXPECT_EQ(histogram.mean_ns(), 0);
  EXPECT_EQ(histogram.stddev_ns(), 0);
}

TEST(LatencyHistogram, TakesLatenciesBeyondItsRange) {
  LatencyHistogram histogram;
  histogram.add(std::chrono::minutes(5));
  histogram.add(nanoseconds(-1));  // a clock that steps back
  EXPECT_EQ(histogram.max(), std::chrono::minutes(5));
  EXPECT_EQ(histogram.percentile(100), std::chrono::minutes(5));
  EXPECT_EQ(histogram.min().count(), 0);
}

TEST(LatencyHistogram, IsExactBelow128NanosecondsAndAtPowersOfTwo) {
  for (std::int64_t value : {0, 1, 63, 64, 100, 127}) {
    LatencyHistogram histogram;
    histogram.add(nanoseconds(value));
    histogram.add(nanoseconds(1'000'000));
    EXPECT_EQ(histogram.percentile(50).count(), value);
  }
  for (int exponent = 7; exponent < 36; ++exponent) {
    LatencyHistogram histogram;
    const std::int64_t value = std::int64_t{1} << exponent;
    histogram.add(nanoseconds(value));
    histogram.add(nanoseconds(value * 2));
    EXPECT_GE(histogram.percentile(50).count(), value);
    EXPECT_LT(histogram.percentile(50).count(), value + value / 64);
  }
}

}  // namespace
}  // namespace strata::nvme_bench::latency_histogram_test
