#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "strata/zero3/step_model.h"
#include "zero3/step_models.h"

/// \file
/// How near a step comes to what no order of its work can beat, where overlap is ideal: over
/// machines, sizes of units, numbers of them and budgets.

namespace strata::zero3::step_reach_test {
namespace {

constexpr double kComputePerDisk[] = {0.25, 0.5, 0.8, 1, 1.25, 2, 4};
constexpr std::int64_t kSmall = 20'000'000, kLarge = 1'000'000'000;

/// Two cores with a disk: copies cost nothing here, as they do not overlap on one thread.
RankSpeeds two_cores() {
  return {.compute = 0.6e12,
          .disk_read = 2.6e9,
          .disk_write = 3.2e9,
          .upload = 1e15,
          .drain = 1e15,
          .update = 50e9,
          .add = 14e9,
          .shares_cores = true,
          .cores = 2};
}

/// A model whose disks work as long as `compute_per_disk` of computing, with room on the device for
/// four of its units.
struct Question {
  bool has_accelerator = true;
  double disk_overlap = 1;
  std::size_t units = 96;
  std::int64_t elements = kSmall;
  double compute_per_disk = 1;
  std::uint64_t micro_batches = 1;
  std::uint64_t host_bytes = tiering::Budget::kUnlimited;  ///< above the least

  [[nodiscard]] RankSpeeds speeds() const {
    RankSpeeds speeds = has_accelerator ? fast_machine() : two_cores();
    speeds.disk_overlap = disk_overlap;
    return speeds;
  }
  [[nodiscard]] Model model() const {
    const RankSpeeds of = speeds();
    const double reading = 16 / of.disk_read, writing = 12 / of.disk_write;
    const double disk =
        std::max(reading, writing) + (1 - disk_overlap) * std::min(reading, writing);
    const double tokens = compute_per_disk * disk * of.compute / 8;
    Model model = model_of(units, elements, tokens / static_cast<double>(micro_batches));
    model.input.device_memory_is_host = !has_accelerator;
    model.input.live_elements_max = PlanInput::kNoBound / 8;
    model.work.micro_batches = micro_batches;
    model.input.accumulate_fp32 = micro_batches > 1;
    if (micro_batches > 1) model.work.loop = StepWork::Loop::kUnitByUnit;
    limit_device(model, 4);
    if (host_bytes != tiering::Budget::kUnlimited) {
      model.input.host_cache = false;
      model.input.budgets.host = smallest_budgets(model.input).host + host_bytes;
    }
    return model;
  }
  [[nodiscard]] std::string text() const {
    return std::string(has_accelerator ? "an accelerator, " : "two cores, ") +
           std::to_string(units) + " units of " + std::to_string(elements / 1'000'000) +
           " million, computing " + std::to_string(compute_per_disk) + " of the disk, overlap " +
           std::to_string(disk_overlap) + ", host budget " + std::to_string(host_bytes);
  }
};

/// The step with clipping over what it can reach: the update under the next forward.
double of_loop(const Question& question) {
  const StepForecast forecast = question.model().forecast(question.speeds(), kUnderForward);
  return forecast.seconds / forecast.reachable_seconds();
}

/// The same of a batch whose units are updated under backward.
double of_batch(Question question) {
  question.micro_batches = 4;
  const Model model = question.model();
  const StepForecast best = model.best(question.speeds());
  const StepForecast any = model.forecast(question.speeds(), kUnderBackward);
  return best.seconds / std::max(best.bound_seconds(), any.cycle_seconds);
}

template <class Visit>
void for_each_machine(Question question, const Visit& visit) {
  for (const bool has_accelerator : {true, false}) {
    for (const double overlap : {0.0, 1.0}) {
      for (const double compute_per_disk : kComputePerDisk) {
        question.has_accelerator = has_accelerator;
        question.disk_overlap = overlap;
        question.compute_per_disk = compute_per_disk;
        visit(question);
      }
    }
  }
}

TEST(StepReach, WithClippingAStepOf48UnitsIsWithinTwoPercentOfWhatItCanReach) {
  for (const std::int64_t elements : {kSmall, kLarge}) {
    for_each_machine({.units = 48, .elements = elements}, [](const Question& question) {
      const double ratio = of_loop(question);
      EXPECT_LT(ratio, question.has_accelerator ? 1.005 : 1.02) << question.text();
      EXPECT_GT(ratio, 1 - 1e-9) << question.text();
    });
  }
}

TEST(StepReach, WithClippingFewUnitsLeaveLittleMore) {
  for_each_machine({.units = 12}, [](const Question& question) {
    EXPECT_LT(of_loop(question), question.has_accelerator ? 1.015 : 1.06) << question.text();
  });
}

// The disk stands still while the last unit computes, as all units are updated by then and no
// gradient has come, and the device does while the first one is updated.
TEST(StepReach, UnderBackwardAStepOfNUnitsLeavesOnePercentAndAPartOfAUnit) {
  for (const std::size_t units : {12, 96}) {
    for_each_machine({.units = units}, [](const Question& question) {
      const double ratio = of_batch(question);
      EXPECT_LT(ratio, 1.012 + 1.2 / static_cast<double>(question.units)) << question.text();
      EXPECT_GT(ratio, 1 - 1e-9) << question.text();
      if (question.units == 96 && question.has_accelerator) {
        EXPECT_LT(ratio, 1.02) << question.text();
      }
    });
  }
}

TEST(StepReach, UnderBackwardUnitsOfABillionParametersLeaveNoMoreThanSmallOnes) {
  for (const double overlap : {0.0, 1.0}) {
    for (const double compute_per_disk : {0.5, 1.0, 2.0}) {
      const Question question{.disk_overlap = overlap,
                              .units = 48,
                              .elements = kLarge,
                              .compute_per_disk = compute_per_disk};
      EXPECT_LT(of_batch(question), 1.037) << question.text();
    }
  }
}

TEST(StepReach, WhereHostMemoryHasNoRoomForGradientsStagingForTwelvePiecesAndSixWindowsIsEnough) {
  for (const std::uint64_t host : {100'000'000u, 500'000'000u}) {
    for (const double compute_per_disk : {0.5, 1.0, 2.0}) {
      Question question{.units = 96, .compute_per_disk = compute_per_disk, .host_bytes = host};
      const Plan plan = make_plan(question.model().input);
      ASSERT_TRUE(plan.gradients_on_nvme);
      ASSERT_EQ(plan.fetch_slots, 12u);
      ASSERT_EQ(plan.windows, 6u);
      EXPECT_LT(of_loop(question), 1.01) << question.text();
      EXPECT_LT(of_batch(question), 1.02) << question.text();
    }
  }
}

// One window is read, updated and written in turn.
TEST(StepReach, TheLeastHostMemoryCostsAtMostSevenTenths) {
  for (const bool has_accelerator : {true, false}) {
    for (const double compute_per_disk : {0.5, 1.0, 2.0}) {
      const Question question{.has_accelerator = has_accelerator,
                              .units = 48,
                              .compute_per_disk = compute_per_disk,
                              .host_bytes = 0};
      ASSERT_EQ(make_plan(question.model().input).windows, 1u);
      EXPECT_LT(of_loop(question), 1.7) << question.text();
      EXPECT_LT(of_batch(question), 1.75) << question.text();
    }
  }
}

}  // namespace
}  // namespace strata::zero3::step_reach_test
