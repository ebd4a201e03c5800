#include "strata/zero3/lr_schedule.h"

#include <gtest/gtest.h>

#include <vector>

#include "strata/base/error.h"

// The expected rates are those that DeepSpeed 0.19's schedulers set for the same parameters: the
// first is the one before the scheduler's first step, with which the first optimizer step is taken.

namespace strata::zero3::lr_schedule_test {
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

TEST(LrSchedule, WarmupDecayLrCanWarmUpLogarithmically) {
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

TEST(LrSchedule, WarmupCosineLrCanWarmUpLogarithmically) {
  expect_rates({.type = SchedulerType::kWarmupCosineLR,
                .warmup_num_steps = 3,
                .warmup_type = WarmupType::kLog,
                .total_num_steps = 9},
               0.01,
               {0.0, 0.0, 0.0063092975357145736, 0.01, 0.009330194006220302, 0.00750025, 0.0050005,
                0.00250075, 0.0006708059937796987, 1e-6, 1e-6});
}

TEST(LrSchedule, OneCycleRisesFallsAndDecays) {
  expect_rates({.type = SchedulerType::kOneCycle,
                .cycle_min_lr = 0.004,
                .cycle_max_lr = 0.015,
                .cycle_first_step_size = 4,
                .cycle_second_step_size = 3,
                .decay_lr_rate = 0.5,
                .decay_step_size = 2},
               0.5,
               {0.004, 0.006749999999999999, 0.009499999999999998, 0.01225, 0.015,
                0.011333333333333329, 0.0076666666666666645, 0.004, 0.0032, 0.0026666666666666666,
                0.002285714285714286, 0.002, 0.0017777777777777779, 0.0016});
}

TEST(LrSchedule, OneCycleCanMoveInStairs) {
  expect_rates({.type = SchedulerType::kOneCycle,
                .cycle_min_lr = 0.004,
                .cycle_max_lr = 0.015,
                .cycle_first_step_size = 5,
                .cycle_first_stair_count = 2,
                .cycle_second_stair_count = 3},
               0.5,
               {0.004, 0.004, 0.004, 0.0095, 0.0095, 0.015, 0.011333333333333332,
                0.007666666666666666, 0.007666666666666666, 0.004, 0.004, 0.004});
}

TEST(LrSchedule, OneCycleMovesTheMomentumTheOtherWay) {
  const SchedulerConfig config = {.type = SchedulerType::kOneCycle,
                                  .cycle_min_lr = 0.004,
                                  .cycle_max_lr = 0.015,
                                  .cycle_first_step_size = 4,
                                  .cycle_second_step_size = 3};
  const formats::OptimizerConfig adam = {.beta1 = 0.5, .beta2 = 0.6};
  const std::vector<double> expected = {0.8,
                                        0.875,
                                        0.8500000000000001,
                                        0.8250000000000001,
                                        0.8,
                                        0.8333333333333334,
                                        0.8666666666666667,
                                        0.9,
                                        0.9};
  const LrSchedule schedule(config, 0.5);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto moved = schedule.with_momentum(adam, static_cast<std::int64_t>(i) + 1);
    EXPECT_DOUBLE_EQ(moved.beta1, expected[i]) << "optimizer step " << i + 1;
    EXPECT_EQ(moved.beta2, 0.99);
  }
  SchedulerConfig still = config;
  still.cycle_momentum = false;
  EXPECT_EQ(LrSchedule(still, 0.5).with_momentum(adam, 3), adam);
  EXPECT_EQ(LrSchedule({}, 0.5).with_momentum(adam, 3), adam);
  const formats::OptimizerConfig sgd = {.type = formats::OptimizerType::kSgd, .momentum = 0.9};
  EXPECT_EQ(schedule.with_momentum(sgd, 3), sgd);
}

TEST(LrSchedule, RangeTestGrowsInALineOrInStairs) {
  SchedulerConfig config = {.type = SchedulerType::kLRRangeTest,
                            .lr_range_test_min_lr = 0.01,
                            .lr_range_test_step_size = 3,
                            .lr_range_test_step_rate = 2.0};
  expect_rates(config, 0.5,
               {0.01, 0.016666666666666666, 0.02333333333333333, 0.03, 0.03666666666666667,
                0.04333333333333334, 0.05});
  config.lr_range_test_staircase = true;
  expect_rates(config, 0.5, {0.01, 0.01, 0.01, 0.03, 0.03, 0.03, 0.05});
}

TEST(LrSchedule, BeginsWhereTheFileSaysAfterAStepAtTheOptimizersRate) {
  expect_rates({.type = SchedulerType::kWarmupLR,
                .warmup_min_lr = 0.001,
                .warmup_max_lr = 0.01,
                .warmup_num_steps = 4,
                .warmup_type = WarmupType::kLinear,
                .last_batch_iteration = 1},
               0.5,
               {0.5, 0.0055000000000000005, 0.007750000000000001, 0.010000000000000002,
                0.010000000000000002});
  expect_rates({.type = SchedulerType::kWarmupCosineLR,
                .warmup_num_steps = 2,
                .warmup_type = WarmupType::kLinear,
                .total_num_steps = 8,
                .last_batch_iteration = 3},
               0.5, {0.5, 0.250025, 0.12503750000000005, 0.033540299688984934, 5e-05});
  const SchedulerConfig cycle = {.type = SchedulerType::kOneCycle,
                                 .cycle_min_lr = 0.1,
                                 .cycle_max_lr = 0.2,
                                 .cycle_first_step_size = 2,
                                 .cycle_second_step_size = 0,
                                 .last_batch_iteration = 1};
  expect_rates(cycle, 0.5, {0.5, 0.1, 0.1});
  const LrSchedule schedule(cycle, 0.5);
  EXPECT_EQ(schedule.with_momentum({.beta1 = 0.5}, 1).beta1, 0.5);
  EXPECT_EQ(schedule.with_momentum({.beta1 = 0.5}, 2).beta1, 0.9);
}

// The rates below are those of transformers.get_scheduler (5.23) for the same parameters.

TEST(LrSchedule, TheTrainersLinearScheduleWarmsUpFromNothingAndFallsToNothing) {
  expect_rates({.type = SchedulerType::kLinear, .warmup_num_steps = 3, .total_num_steps = 8}, 0.02,
               {0.0, 0.006666666666666666, 0.013333333333333332, 0.02, 0.016, 0.012, 0.008, 0.004,
                0.0, 0.0});
  expect_rates({.type = SchedulerType::kLinear, .warmup_num_steps = 0, .total_num_steps = 2}, 0.02,
               {0.02, 0.01, 0.0, 0.0});
}

TEST(LrSchedule, TheTrainersConstantScheduleStaysAndCanWarmUp) {
  expect_rates({.type = SchedulerType::kConstant}, 0.02, {0.02, 0.02, 0.02});
  expect_rates({.type = SchedulerType::kConstantWithWarmup, .warmup_num_steps = 3}, 0.02,
               {0.0, 0.006666666666666666, 0.013333333333333332, 0.02, 0.02});
}

TEST(LrSchedule, TheTrainersCosineGoesToNothingOrToItsMinimum) {
  const auto expect_near = [](const SchedulerConfig& config, const std::vector<double>& expected) {
    const LrSchedule schedule(config, 0.02);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(schedule.at(static_cast<std::int64_t>(i) + 1), expected[i], 1e-15)
          << "optimizer step " << i + 1;
    }
  };
  expect_near({.type = SchedulerType::kCosine, .warmup_num_steps = 3, .total_num_steps = 8},
              {0.0, 0.006666666666666666, 0.013333333333333332, 0.02, 0.018090169943749474,
               0.013090169943749475, 0.006909830056250526, 0.0019098300562505265, 0.0,
               0.0019098300562505244});
  expect_near({.type = SchedulerType::kCosine,
               .warmup_num_steps = 1,
               .total_num_steps = 7,
               .num_cycles = 1.5},
              {0.0, 0.02, 0.01, 0.0, 0.009999999999999998, 0.02, 0.010000000000000002, 0.0});
  expect_near({.type = SchedulerType::kCosineWithMinLr,
               .warmup_num_steps = 3,
               .total_num_steps = 8,
               .min_lr = 0.005},
              {0.0, 0.006666666666666666, 0.013333333333333332, 0.02, 0.018567627457812107,
               0.014817627457812106, 0.010182372542187897, 0.006432372542187896, 0.005,
               0.006432372542187893});
  expect_near(
      {.type = SchedulerType::kCosineWithMinLr,
       .warmup_num_steps = 0,
       .total_num_steps = 7,
       .min_lr_rate = 0.1},
      {0.02, 0.01910871981112177, 0.0166114082167286, 0.013002688405606828, 0.008997311594393171,
       0.005388591783271399, 0.002891280188878229, 0.002, 0.002891280188878228});
}

TEST(LrSchedule, RefusesAnUnknownLengthAndValuesOutOfRange) {
  const auto expect_refused = [](const SchedulerConfig& config) {
    EXPECT_THROW(LrSchedule(config, 0.01), ConfigError);
  };
  expect_refused({.type = SchedulerType::kWarmupDecayLR});
  expect_refused({.type = SchedulerType::kWarmupCosineLR});
  expect_refused({.type = SchedulerType::kLinear});
  expect_refused({.type = SchedulerType::kCosine, .total_num_steps = 5, .num_cycles = -1});
  expect_refused({.type = SchedulerType::kWarmupLR, .warmup_min_lr = -1e-3});
  expect_refused({.type = SchedulerType::kWarmupLR, .warmup_max_lr = -1e-3});
  expect_refused({.type = SchedulerType::kWarmupLR, .warmup_num_steps = -1});
  expect_refused({.type = SchedulerType::kWarmupLR, .last_batch_iteration = -2});
  expect_refused({.type = SchedulerType::kOneCycle, .cycle_max_lr = -1});
  expect_refused({.type = SchedulerType::kOneCycle, .cycle_first_step_size = 0});
  expect_refused({.type = SchedulerType::kOneCycle, .cycle_max_mom = 1.0});
  expect_refused({.type = SchedulerType::kLRRangeTest, .lr_range_test_step_size = 0});
}

}  // namespace
}  // namespace strata::zero3::lr_schedule_test
