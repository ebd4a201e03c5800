#include <gtest/gtest.h>

#include "strata/base/units.h"
#include "strata/tiering/activation_room.h"
#include "strata/zero3/step_model.h"
#include "zero3/step_models.h"

// Inputs of units that recompute, on their way to host memory and nvme and back.

namespace strata::zero3::step_activations_test {
namespace {

constexpr std::uint64_t kInput = 8 << 20;  // elements of each use, 16 MiB

/// Eight units whose inputs have this room.
Model model_with(const tiering::ActivationRoom& room) {
  Model model = model_of(8, 1 << 20, 1000);
  for (UnitUse& use : model.work.uses) use.input_elements = kInput;
  model.input.activations = room;
  return model;
}

tiering::ActivationRoom room_of(std::uint64_t host, std::uint64_t nvme) {
  return tiering::activation_room(host, nvme, 1_MiB);
}

TEST(StepActivations, InHostMemoryTheyTakeACopyEachWay) {
  const StepForecast without = model_with({}).forecast(fast_machine(), kSerial);
  const StepForecast with = model_with(room_of(1_GiB, 0)).forecast(fast_machine(), kSerial);
  const auto more = [&](StepLane lane) { return with.at(lane).amount - without.at(lane).amount; };
  EXPECT_DOUBLE_EQ(more(StepLane::kDrain), 8.0 * 16_MiB);
  EXPECT_DOUBLE_EQ(more(StepLane::kUpload), 8.0 * 16_MiB);
  EXPECT_DOUBLE_EQ(more(StepLane::kDiskRead), 0);
  EXPECT_DOUBLE_EQ(more(StepLane::kDiskWrite), 0);
}

TEST(StepActivations, WhatIsPutLastIsBroughtAtOnceAndWaitsForBothCopies) {
  constexpr double kBytes = 2.0 * kInput;
  const RankSpeeds speeds = slow_machine();
  Model model = model_of(1, 1 << 19, 1);
  const double without = model.forecast(speeds, kSerial).seconds;
  model.work.uses.front().input_elements = kInput;
  EXPECT_NEAR(model.forecast(speeds, kSerial).seconds, without, 1e-9) << "there is no room";
  model.input.activations = room_of(1_GiB, 0);
  EXPECT_NEAR(model.forecast(speeds, kSerial).seconds, without + kBytes / 4e9 + kBytes / 8e9, 1e-9);
}

TEST(StepActivations, WhatHostMemoryHasNoRoomForIsWrittenAndReadOnce) {
  const StepForecast without = model_with({}).forecast(fast_machine(), kSerial);
  const tiering::ActivationRoom room = room_of(64_MiB, 1_GiB);
  const StepForecast with = model_with(room).forecast(fast_machine(), kSerial);
  const double away = 8.0 * 16_MiB - static_cast<double>(room.host_bytes());
  EXPECT_DOUBLE_EQ(with.at(StepLane::kDiskRead).amount - without.at(StepLane::kDiskRead).amount,
                   away);
  const double written =
      with.at(StepLane::kDiskWrite).amount - without.at(StepLane::kDiskWrite).amount;
  EXPECT_GE(written, away);
  EXPECT_LE(written, away + 8.0 * static_cast<double>(room.page_bytes)) << "some pages ahead";
  EXPECT_DOUBLE_EQ(with.at(StepLane::kUpload).amount - without.at(StepLane::kUpload).amount,
                   8.0 * 16_MiB);
}

TEST(StepActivations, WhatFindsNoRoomStaysOnTheDevice) {
  const StepForecast without = model_with({}).forecast(fast_machine(), kSerial);
  const tiering::ActivationRoom room = room_of(24_MiB, 0);
  const StepForecast with = model_with(room).forecast(fast_machine(), kSerial);
  EXPECT_DOUBLE_EQ(with.at(StepLane::kDrain).amount - without.at(StepLane::kDrain).amount,
                   static_cast<double>(room.host_bytes()));
}

TEST(StepActivations, UnitsThatDoNotRecomputeKeepTheirs) {
  Model model = model_with(room_of(64_MiB, 1_GiB));
  for (UnitUse& use : model.work.uses) use.recompute = 0;
  const StepForecast kept = model.forecast(fast_machine(), kSerial);
  EXPECT_DOUBLE_EQ(kept.at(StepLane::kDrain).amount, 2 * model.parameters());
}

TEST(StepActivations, ASlowDiskIsWaitedForOnTheWayThereAndBack) {
  RankSpeeds speeds = fast_machine();
  speeds.disk_read = speeds.disk_write = 1e8;
  const double in_memory = model_with(room_of(1_GiB, 0)).forecast(speeds, kSerial).seconds;
  const tiering::ActivationRoom room = room_of(64_MiB, 1_GiB);
  const StepForecast away = model_with(room).forecast(speeds, kSerial);
  const double bytes = 8.0 * 16_MiB - static_cast<double>(room.host_bytes());
  EXPECT_GT(away.seconds, in_memory + 1.5 * bytes / 1e8);
  EXPECT_GE(away.seconds, away.reachable_seconds());
}

TEST(StepActivations, ABatchThatGoesUnitByUnitPutsThoseOfAllMicroBatchesAway) {
  Model model = model_with(room_of(1_GiB, 0));
  model.work.micro_batches = 3;
  model.work.loop = StepWork::Loop::kUnitByUnit;
  model.input.accumulate_fp32 = true;
  const StepForecast forecast = model.forecast(fast_machine(), kSerial);
  // The last unit goes back at once.
  EXPECT_DOUBLE_EQ(forecast.at(StepLane::kDrain).amount,
                   4 * model.parameters() + 3 * 7 * 16.0 * 1_MiB);
}

}  // namespace
}  // namespace strata::zero3::step_activations_test
