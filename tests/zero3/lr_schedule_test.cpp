#include "strata/zero3/lr_schedule.h"

#include <gtest/gtest.h>

#include <vector>

#include "strata/base/error.h"

// The expected rates are those that DeepSpeed 0.19's schedulers set for the same parameters: the
// first is the one before the scheduler's first step, with which the first optimizer step is taken.

namespace strata::zero3 {
namespace {

using formats::SchedulerConfig;
using formats::SchedulerType;
using formats::WarmupType;

void expect_rates(const SchedulerConfig& config, double base_lr,
                  const std::vector<double>& expected) {
  const LrSchedule schedule(config, base_lr);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_DOUBLE_EQ(schedule.at(static_cast<std::int64_t>(i) + 1), expected[i])
        << "optimizer step " << i + 1;
  }
}

TEST(LrSchedule, WithoutASchedulerIsTheOptimizersRate) {
  expect_rates({}, 3e-4, {3e-4, 3e-4, 3e-4});
}

TEST(LrSchedule, WarmupLrRisesLinearlyAndStays) {
  expect_rates({.type = SchedulerType::kWarmupLR,
                .warmup_min_lr = 0.001,
                .warmup_max_lr = 0.01,
                .warmup_num_steps = 4,
                .warmup_type = WarmupType::kLinear},
               0.5, {0.001, 0.001, 0.00325, 0.0055, 0.00775, 0.01, 0.01});
}

TEST(LrSchedule, WarmupLrRisesLogarithmicallyAndStays) {
  expect_rates({.type = SchedulerType::kWarmupLR,
                .warmup_min_lr = 0.001,
                .warmup_max_lr = 0.01,
                .warmup_num_steps = 4,
                .warmup_type = WarmupType::kLog},
               0.5, {0.001, 0.001, 0.0055, 0.008132331253245204, 0.01, 0.01, 0.01});
}

TEST(LrSchedule, WarmsUpToTheOptimizersRateWhenNoneIsNamedAndInTwoStepsAtLeast) {
  expect_rates(
      {.type = SchedulerType::kWarmupLR, .warmup_num_steps = 1, .warmup_type = WarmupType::kLinear},
      0.02, {0.0, 0.0, 0.01, 0.02});
}

TEST(LrSchedule, WarmupDecayLrFallsLinearlyToTheMinimumAndStays) {
  expect_rates({.type = SchedulerType::kWarmupDecayLR,
                .warmup_min_lr = 0.001,
                .warmup_max_lr = 0.01,
                .warmup_num_steps = 3,
                .warmup_type = WarmupType::kLinear,
                .total_num_steps = 8},
               0.5,
               {0.001, 0.001, 0.004, 0.007, 0.01, 0.0082, 0.0064, 0.0046, 0.0028, 0.001, 0.001});
}

TEST(LrSchedule, WarmupDecayLrWithLogarithmicWarmup) {
  expect_rates({.type = SchedulerType::kWarmupDecayLR,
                .warmup_max_lr = 0.01,
                .warmup_num_steps = 3,
                .warmup_type = WarmupType::kLog,
                .total_num_steps = 8},
               0.5, {0, 0, 0.0063092975357145736, 0.01, 0.01, 0.008, 0.006, 0.004, 0.002, 0});
}

TEST(LrSchedule, ARunShorterThanItsWarmupEndsAtTheMinimum) {
  expect_rates({.type = SchedulerType::kWarmupDecayLR,
                .warmup_max_lr = 0.01,
                .warmup_num_steps = 4,
                .warmup_type = WarmupType::kLinear,
                .total_num_steps = 2},
               0.5, {0, 0, 0.0025, 0.005, 0.0075, 0});
  expect_rates({.type = SchedulerType::kWarmupCosineLR,
                .warmup_num_steps = 5,
                .warmup_type = WarmupType::kLinear,
                .total_num_steps = 3,
                .cos_min_ratio = 0.1},
               0.01, {0, 0, 0.002, 0.004, 0.006, 0.008, 0.001, 0.001});
}

TEST(LrSchedule, WarmupCosineLrScalesTheOptimizersRate) {
  expect_rates({.type = SchedulerType::kWarmupCosineLR,
                .warmup_num_steps = 3,
                .warmup_type = WarmupType::kLinear,
                .total_num_steps = 9,
                .warmup_min_ratio = 0.1,
                .cos_min_ratio = 0.05},
               0.01,
               {0.0, 0.001, 0.004, 0.007, 0.009363620667976085, 0.007625, 0.00525, 0.002875,
                0.0011363793320239163, 0.0005, 0.0005, 0.0005});
}

TEST(LrSchedule, WarmupCosineLrWithLogarithmicWarmup) {
  expect_rates({.type = SchedulerType::kWarmupCosineLR,
                .warmup_num_steps = 3,
                .warmup_type = WarmupType::kLog,
                .total_num_steps = 9},
               0.01,
               {0.0, 0.0, 0.0063092975357145736, 0.01, 0.009330194006220302, 0.00750025, 0.0050005,
                0.00250075, 0.0006708059937796987, 1e-6, 1e-6});
}

TEST(LrSchedule, RefusesAnUnknownLengthAndValuesOutOfRange) {
  const auto expect_refused = [](const SchedulerConfig& config) {
    EXPECT_THROW(LrSchedule(config, 0.01), ConfigError);
  };
  expect_refused({.type = SchedulerType::kWarmupDecayLR});
  expect_refused({.type = SchedulerType::kWarmupCosineLR});
  expect_refused({.type = SchedulerType::kWarmupLR, .warmup_min_lr = -1e-3});
  expect_refused({.type = SchedulerType::kWarmupLR, .warmup_max_lr = -1e-3});
  expect_refused({.type = SchedulerType::kWarmupLR, .warmup_num_steps = -1});
}

}  // namespace
}  // namespace strata::zero3
