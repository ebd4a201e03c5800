#include "strata/zero3/step_model.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "zero3/step_models.h"

namespace strata::zero3::step_overlap_test {
namespace {

TEST(StepModel, WhereTheDiskBindsAnIdealOverlapIsWithinTwoPercentOfTheBound) {
  for (const double overlap : {0.0, 0.5, 1.0}) {
    for (const double tokens : {1024.0, 8192.0, 32768.0}) {
      Model model = model_of(48, 20'000'000, tokens);
      limit_device(model, 4);
      RankSpeeds speeds = fast_machine();
      speeds.disk_overlap = overlap;
      const StepForecast forecast = model.best(speeds);
      ASSERT_EQ(forecast.binds(), StepResource::kDisk);
      EXPECT_GT(forecast.fraction(), 0.98) << "overlap " << overlap << ", tokens " << tokens;
      EXPECT_LT(forecast.fraction(), 1.0 + 1e-6);
    }
  }
}

TEST(StepModel, WhereComputingBindsAnIdealOverlapIsWithinTwoPercentOfTheBound) {
  for (const double tokens : {500'000.0, 2'000'000.0}) {
    Model model = model_of(48, 20'000'000, tokens);
    limit_device(model, 4);
    const StepForecast forecast = model.best(fast_machine());
    ASSERT_EQ(forecast.binds(), StepResource::kCompute);
    EXPECT_GT(forecast.fraction(), 0.98) << tokens;
  }
}

TEST(StepModel, ClippingCostsOverlapAndStillBeatsTheSerialStep) {
  Model model = model_of(48, 20'000'000, 65'536);
  limit_device(model, 4);
  const RankSpeeds speeds = fast_machine();
  const Plan plan = make_plan(model.input);
  EXPECT_EQ(
      shortest_overlap(plan, model.input, model.work, speeds, /*under_backward=*/false).early_share,
      0);
  const double serial = model.forecast(speeds, kSerial).seconds;
  const double clipped = model.forecast(speeds, kUnderForward).seconds;
  EXPECT_LT(clipped, 0.95 * serial);
  EXPECT_LT(model.best(speeds).seconds, 0.95 * clipped);
}

TEST(StepModel, AUnitsNextUseWaitsForItsOwnUpdateAlone) {
  // One unit: its update cannot be hidden under its own forward.
  const RankSpeeds speeds = fast_machine();
  const Model one = model_of(1, 1 << 20, 100);
  EXPECT_NEAR(one.forecast(speeds, kUnderForward).seconds, one.forecast(speeds, kSerial).seconds,
              1e-9);
}

// ---- what a step cannot avoid ------------------------------------------------------------------

TEST(StepOverlap, AUnitIsNotUsedBeforeItsOwnUpdateIsAtRestAndItsWeightsAreBack) {
  constexpr double kElements = 1 << 19;
  const Model model = one_unit();
  const RankSpeeds speeds = slow_machine();
  // Windows have read the states by then; the gradient's way and the update go on beside writing.
  EXPECT_NEAR(model.forecast(speeds, kUnderForward).cycle_seconds,
              11e5 / 1e9 + 12 * kElements / 1e9 + 2 * kElements / 2e9, 1e-9);
}

/// `units` of 20 million parameters whose disks work as long as `compute_per_disk` of computing.
Model balanced(std::size_t units, const RankSpeeds& speeds, double compute_per_disk) {
  const double reading = 16 / speeds.disk_read, writing = 12 / speeds.disk_write;
  const double disk =
      std::max(reading, writing) + (1 - speeds.disk_overlap) * std::min(reading, writing);
  Model model = model_of(units, 20'000'000, compute_per_disk * disk * speeds.compute / 8);
  limit_device(model, 4);
  return model;
}

TEST(StepOverlap, OfEqualLanesAndUnitsOneUnitsUpdateIsNeverHidden) {
  const RankSpeeds speeds = fast_machine();
  for (const std::size_t units : {12, 48, 96}) {
    const StepForecast forecast = balanced(units, speeds, 1).forecast(speeds, kUnderBackward);
    const double lost = forecast.cycle_seconds / forecast.bound_seconds() - 1;
    EXPECT_GT(lost, 0.8 / static_cast<double>(units));
    EXPECT_LT(lost, 1.3 / static_cast<double>(units));
  }
}

TEST(StepOverlap, WhereUpdatesWaitForAllGradientsBackwardHidesNoneOfThem) {
  const RankSpeeds speeds = fast_machine();
  for (const double compute_per_disk : {0.25, 1.0, 4.0}) {
    const Model model = balanced(48, speeds, compute_per_disk);
    const StepForecast clipped = model.forecast(speeds, kUnderForward);
    const double computing = clipped.at(StepLane::kCompute).seconds;
    const double windows = 10.0 * 16 * (1 << 19) / speeds.disk_read;  // read before backward ends
    // Reads and writes overlap; states, and the weights that forward brings.
    const double disk = std::max(12 * model.parameters() / speeds.disk_read - windows,
                                 12 * model.parameters() / speeds.disk_write);
    const double last_unit = computing / 4 / 48;
    const double least =
        std::max(0.75 * computing + last_unit + std::max(computing / 4 - last_unit, disk),
                 computing + 12 * 20e6 / speeds.disk_write + 2 * 20e6 / speeds.disk_read);
    EXPECT_NEAR(clipped.cycle_seconds, least, 1e-6) << compute_per_disk;
    EXPECT_EQ(clipped.cycle_seconds, model.forecast(speeds, kSerial).cycle_seconds);
    EXPECT_LE(model.forecast(speeds, kUnderBackward).cycle_seconds, clipped.cycle_seconds);
    EXPECT_GE(model.forecast(speeds, kSerial).seconds, clipped.cycle_seconds);
  }
}

struct Left {
  double compute_per_disk;
  double fraction;  ///< of what can be reached, at least
};

TEST(StepOverlap, AScheduleLeavesLittleOfWhatCanBeReached) {
  for (const double overlap : {0.0, 1.0}) {
    RankSpeeds speeds = fast_machine();
    speeds.disk_overlap = overlap;
    for (const std::size_t units : {48, 96}) {
      for (const auto& [compute_per_disk, fraction] :
           {Left{0.25, 0.97}, Left{0.5, 0.98}, Left{0.8, 0.97}, Left{1, 0.915}, Left{2, 0.96}}) {
        const StepForecast forecast = balanced(units, speeds, compute_per_disk).best(speeds);
        EXPECT_GT(forecast.reachable_seconds() / forecast.seconds, fraction)
            << units << " units, overlap " << overlap << ", computing " << compute_per_disk;
      }
    }
  }
}

TEST(StepOverlap, WhatIsLeftWhereComputingBindsIsTheWaitForGradientsToBeHome) {
  const RankSpeeds speeds = fast_machine();
  for (const std::size_t units : {48, 96}) {
    const Model model = balanced(units, speeds, 2);
    Plan plan = make_plan(model.input);
    plan.gradient_slots = 64;  // all of a unit's gradient leaves while the next unit computes
    const StepForecast forecast =
        forecast_step(plan, model.input, model.work, speeds,
                      shortest_overlap(plan, model.input, model.work, speeds, true));
    EXPECT_GT(forecast.reachable_seconds() / forecast.seconds, 0.98) << units;
  }
}

}  // namespace
}  // namespace strata::zero3::step_overlap_test
