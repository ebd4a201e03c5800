#include "strata/zero3/step_model.h"

#include <gtest/gtest.h>

#include "strata/base/units.h"
#include "zero3/step_models.h"

namespace strata::zero3::step_bytes_test {
namespace {

using tiering::Tier;

TEST(StepModel, WithRoomForAllUnitsEachIsFetchedOnceAStep) {
  const Model model = model_of(12, 3 << 20, 64);
  const double p = model.parameters();
  for (const StepOrder& order : {kSerial, kUnderForward}) {
    const StepForecast forecast = model.forecast(fast_machine(), order);
    EXPECT_DOUBLE_EQ(forecast.at(StepLane::kDiskRead).amount, 14 * p);
    EXPECT_DOUBLE_EQ(forecast.at(StepLane::kDiskWrite).amount, 12 * p);
    EXPECT_DOUBLE_EQ(forecast.at(StepLane::kUpload).amount, 2 * p);
    EXPECT_DOUBLE_EQ(forecast.at(StepLane::kDrain).amount, 2 * p);
    EXPECT_DOUBLE_EQ(forecast.at(StepLane::kUpdate).amount, (26 + 4) * p);
    EXPECT_DOUBLE_EQ(forecast.at(StepLane::kCompute).amount, 8 * p * 64);
    EXPECT_DOUBLE_EQ(forecast.at(StepLane::kExchange).amount, 0);
    EXPECT_DOUBLE_EQ(forecast.at(Hop::kFetch).bytes, 14 * p);
    EXPECT_DOUBLE_EQ(forecast.at(Hop::kFlush).bytes, 12 * p);
    EXPECT_DOUBLE_EQ(forecast.at(Hop::kGather).bytes, 2 * p);
    EXPECT_DOUBLE_EQ(forecast.at(Hop::kReduce).bytes, 2 * p);
    EXPECT_DOUBLE_EQ(forecast.at(Hop::kDrain).bytes, 2 * p);
    EXPECT_DOUBLE_EQ(forecast.at(Hop::kStep).bytes, 26 * p);
    EXPECT_DOUBLE_EQ(forecast.at(Hop::kCompute).bytes, 0);
  }
}

TEST(StepModel, GradientsInHostMemoryGoStraightHome) {
  Model model = model_of(12, 3 << 20, 64);
  const double p = model.parameters();
  const StepForecast elsewhere = model.forecast(fast_machine(), kSerial);
  model.input.device_memory_is_host = true;
  const StepForecast forecast = model.forecast(fast_machine(), kSerial);
  EXPECT_EQ(forecast.at(StepLane::kDrain).amount, 0);
  EXPECT_EQ(forecast.at(Hop::kReduce).bytes, 0);
  EXPECT_DOUBLE_EQ(forecast.at(Hop::kDrain).bytes, 2 * p);
  EXPECT_DOUBLE_EQ(forecast.at(StepLane::kUpdate).amount, elsewhere.at(StepLane::kUpdate).amount);
}

TEST(StepModel, WithRoomForOneUnitOnlyTurningPointsSpareAFetch) {
  constexpr double kUnits = 6;
  constexpr double kMicroBatches = 3;
  Model model = model_of(6, 1 << 20, 64);
  model.work.micro_batches = 3;
  model.input.accumulate_fp32 = true;
  limit_device(model, 1);
  const double unit = model.parameters() / kUnits;
  const StepForecast forecast = model.forecast(fast_machine(), kSerial);
  const double entries = 2 * kUnits * kMicroBatches;
  const double turns = 2 * kMicroBatches - 1;  // at the loss, and from one micro-batch to the next
  EXPECT_DOUBLE_EQ(forecast.at(StepLane::kUpload).amount, (entries - turns) * 2 * unit);
  EXPECT_DOUBLE_EQ(forecast.at(StepLane::kDiskRead).amount,
                   (entries - turns) * 2 * unit + 12 * kUnits * unit);
  EXPECT_DOUBLE_EQ(forecast.at(StepLane::kDrain).amount, kMicroBatches * kUnits * 2 * unit);
  // Of each micro-batch the piece is read and the fp32 sum written, and but for the first read.
  const double additions = kMicroBatches * (2 + 4) + (kMicroBatches - 1) * 4;
  EXPECT_DOUBLE_EQ(forecast.at(StepLane::kUpdate).amount, (additions + 24 + 4) * kUnits * unit);
}

TEST(StepModel, UnitByUnitManyMicroBatchesMoveTheBytesOfOne) {
  constexpr double kUnits = 6;
  Model model = model_of(6, 1 << 20, 64);
  model.input.accumulate_fp32 = true;
  limit_device(model, 1);
  model.work.loop = StepWork::Loop::kUnitByUnit;
  model.work.micro_batches = 1000;
  const double unit = model.parameters() / kUnits;
  const StepForecast forecast = model.forecast(fast_machine(), kSerial);
  const double entries = 2 * kUnits - 1;  // the last one's is forward and backward
  EXPECT_DOUBLE_EQ(forecast.at(StepLane::kUpload).amount, entries * 2 * unit);
  EXPECT_DOUBLE_EQ(forecast.at(StepLane::kDiskRead).amount,
                   entries * 2 * unit + 12 * kUnits * unit);
  EXPECT_DOUBLE_EQ(forecast.at(StepLane::kDrain).amount, kUnits * 4 * unit);
  EXPECT_DOUBLE_EQ(forecast.at(StepLane::kUpdate).amount, (4 + 4 + 24 + 4) * kUnits * unit);
  const double flop = 8 * 64 * unit * kUnits * 1000;  // forward, again, and backward
  EXPECT_NEAR(forecast.at(StepLane::kCompute).amount, flop, 1e-6 * flop);
  EXPECT_GE(forecast.seconds, forecast.bound_seconds());
}

TEST(StepModel, ASpanBringsItsWeightsOnceMoreAndComputesTheSame) {
  constexpr double kUnits = 6;
  for (const std::uint64_t micro_batches : {1, 1000}) {
    Model model = model_of(6, 1 << 20, 64);
    model.input.accumulate_fp32 = micro_batches > 1;
    limit_device(model, 1);
    model.work.loop = StepWork::Loop::kUnitByUnit;
    model.work.micro_batches = micro_batches;
    const double unit = model.parameters() / kUnits;
    const StepForecast whole = model.forecast(fast_machine(), kSerial);
    model.work.spans = {{1, 4}};
    const StepForecast span = model.forecast(fast_machine(), kSerial);
    // Of the three that are brought again, the last one is there when its backward comes.
    EXPECT_DOUBLE_EQ(span.at(StepLane::kUpload).amount - whole.at(StepLane::kUpload).amount,
                     (3 - 1) * 2 * unit);
    EXPECT_NEAR(span.at(StepLane::kCompute).amount, whole.at(StepLane::kCompute).amount,
                1e-6 * whole.at(StepLane::kCompute).amount);
    EXPECT_DOUBLE_EQ(span.at(StepLane::kDrain).amount, whole.at(StepLane::kDrain).amount);
    EXPECT_GE(span.seconds, span.bound_seconds());
  }
}

TEST(StepModel, ManyMicroBatchesMoveTheBytesOfEach) {
  Model model = model_of(4, 1 << 20, 64);
  model.input.accumulate_fp32 = true;
  limit_device(model, 1);
  const auto forecast = [&](std::uint64_t micro_batches) {
    model.work.micro_batches = micro_batches;
    return model.forecast(fast_machine(), kSerial);
  };
  const StepForecast eight = forecast(8);
  const StepForecast many = forecast(1000);
  const double unit = model.parameters() / 4;
  EXPECT_NEAR(many.at(StepLane::kUpload).amount, 2 * unit * (8 * 1000 - (2 * 1000 - 1)), 1);
  EXPECT_NEAR(many.at(StepLane::kDrain).amount, 1000 * 4 * 2 * unit, 1);
  EXPECT_GT(many.seconds, 20 * eight.seconds);
  EXPECT_GE(many.seconds, many.bound_seconds());
}

TEST(StepModel, GradientsWithoutRoomInHostMemoryAreWrittenAndReadOnceEach) {
  Model model = model_of(6, 8 << 20, 64);
  model.input.budgets.host = smallest_budgets(model.input).host;
  const Plan plan = make_plan(model.input);
  ASSERT_TRUE(plan.gradients_on_nvme);
  double on_nvme = 0;
  for (const Tier tier : plan.gradient_tier) on_nvme += tier == Tier::kNvme ? 8 << 20 : 0;
  const StepForecast forecast = model.forecast(fast_machine(), kSerial);
  const double p = model.parameters();
  EXPECT_DOUBLE_EQ(forecast.at(StepLane::kDiskWrite).amount, 12 * p + 2 * on_nvme);
  EXPECT_DOUBLE_EQ(forecast.at(StepLane::kDiskRead).amount, 14 * p + 2 * on_nvme);
}

TEST(StepModel, WhatIsKeptInHostMemoryTakesNoDisk) {
  Model model = model_of(4, 1 << 20, 64);
  limit_device(model, 1);
  const double unit = 1 << 20;
  const StepForecast none = model.forecast(fast_machine(), kSerial);
  const std::uint64_t taken = make_plan(model.input).total.host;
  const auto kept = [&](std::uint64_t bytes) {
    model.input.budgets.host = taken + bytes;
    return model.forecast(fast_machine(), kSerial);
  };
  // Forward and backward upload the same, from wherever it comes; the last unit stays in between.
  const StepForecast a_weight = kept(2_MiB);
  EXPECT_DOUBLE_EQ(a_weight.at(StepLane::kUpload).amount, none.at(StepLane::kUpload).amount);
  EXPECT_DOUBLE_EQ(a_weight.at(StepLane::kDiskRead).amount,
                   none.at(StepLane::kDiskRead).amount - 3 * 2 * unit);
  EXPECT_DOUBLE_EQ(a_weight.at(StepLane::kDiskWrite).amount,
                   none.at(StepLane::kDiskWrite).amount - 2 * unit);
  const StepForecast weights = kept(8_MiB);
  EXPECT_DOUBLE_EQ(weights.at(StepLane::kDiskRead).amount, 4 * 10 * unit);
  EXPECT_DOUBLE_EQ(weights.at(StepLane::kDiskWrite).amount, 4 * 10 * unit);
  const StepForecast half = kept(8_MiB + 20_MiB);
  EXPECT_DOUBLE_EQ(half.at(StepLane::kDiskRead).amount, 2 * 10 * unit);
  const StepForecast all = kept(48_MiB);
  EXPECT_EQ(all.at(StepLane::kDiskRead).amount, 0);
  EXPECT_EQ(all.at(StepLane::kDiskWrite).amount, 0);
  EXPECT_DOUBLE_EQ(all.at(StepLane::kUpdate).amount, none.at(StepLane::kUpdate).amount);
  EXPECT_LT(all.seconds, half.seconds);
  EXPECT_LT(half.seconds, none.seconds);
}

TEST(StepModel, RanksReadAShardEachAndExchangeTheRest) {
  Model model = model_of(6, 4 << 20, 64);
  model.input.world_size = 4;
  const double p = model.parameters();
  const StepForecast forecast = model.forecast(fast_machine(), kSerial);
  EXPECT_DOUBLE_EQ(forecast.at(StepLane::kDiskRead).amount, 14 * p / 4);
  EXPECT_DOUBLE_EQ(forecast.at(StepLane::kDiskWrite).amount, 12 * p / 4);
  EXPECT_DOUBLE_EQ(forecast.at(Hop::kGather).bytes, 2 * p);
  // Three quarters of every weight come once, and of every gradient of the own shard.
  EXPECT_DOUBLE_EQ(forecast.at(StepLane::kExchange).amount, 2 * (2 * p * 3 / 4));
}

TEST(StepModel, RanksExchangeWhatTheirStageShares) {
  constexpr std::uint64_t kRanks = 4;
  for (const int stage : {0, 1, 2, 3}) {
    Model model = model_of(6, 4 << 20, 64);
    model.input.world_size = kRanks;
    model.input.stage = stage;
    model.input.parameter_tier = stage == 0 ? tiering::Tier::kDevice : tiering::Tier::kHost;
    model.input.optimizer_tier = tiering::Tier::kHost;
    if (stage == 3) limit_device(model, 1);
    const double p = model.parameters(), from_others = p * 3 / 4;
    const StepForecast forecast = model.forecast(fast_machine(), kSerial);
    // Stage 3 gathers again for backward, all but the last unit, which is there still.
    const double weights = stage == 0 ? 0 : stage == 3 ? 2 - 1.0 / 6 : 1;
    const double gradients = stage == 0 ? 2 : 1;
    EXPECT_DOUBLE_EQ(forecast.at(StepLane::kExchange).amount,
                     2 * from_others * (weights + gradients))
        << "stage " << stage;
    const double updated = stage == 0 ? p : p / kRanks;
    EXPECT_DOUBLE_EQ(forecast.at(Hop::kStep).bytes, (2 * 12 + 2) * updated) << "stage " << stage;
  }
}

TEST(StepModel, WhatIsUpdatedEarlyIsUpdatedOnce) {
  const Model model = model_of(6, 5 << 20, 64);
  for (const double share : {0.0, 0.3, 0.5, 1.0}) {
    const StepForecast forecast = model.forecast(
        fast_machine(), {.kind = StepOrder::Kind::kOverlapped, .early_share = share});
    EXPECT_DOUBLE_EQ(forecast.at(StepLane::kDiskWrite).amount, 12 * model.parameters()) << share;
  }
}

TEST(StepModel, FrozenParametersAreReadAndNeverWritten) {
  Model model = model_of(4, 1 << 20, 64);
  for (UnitLayout& unit : model.input.units) {
    unit = {};
    unit.add("weight", {1 << 20}, false);
  }
  const StepForecast forecast = model.forecast(fast_machine(), kSerial);
  EXPECT_EQ(forecast.at(StepLane::kDiskWrite).amount, 0);
  EXPECT_EQ(forecast.at(StepLane::kDrain).amount, 0);
  EXPECT_EQ(forecast.at(StepLane::kUpdate).amount, 0);
}

}  // namespace
}  // namespace strata::zero3::step_bytes_test
