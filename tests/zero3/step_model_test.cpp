#include "strata/zero3/step_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/tiering/budget.h"

namespace strata::zero3 {
namespace {

using testing::HasSubstr;
using tiering::Budget;
using tiering::Tier;

constexpr StepOrder kSerial{};
constexpr StepOrder kUnderForward{.kind = StepOrder::Kind::kOverlapped};

/// A plan and what it is for.
struct Model {
  PlanInput input;
  StepWork work;

  [[nodiscard]] double parameters() const {
    double count = 0;
    for (const UnitLayout& unit : input.units) count += static_cast<double>(unit.trainable_count);
    return count;
  }
  [[nodiscard]] StepForecast forecast(const RankSpeeds& speeds, const StepOrder& order) const {
    return forecast_step(make_plan(input), input, work, speeds, order);
  }
  [[nodiscard]] StepForecast best(const RankSpeeds& speeds) const {
    const Plan plan = make_plan(input);
    return forecast_step(plan, input, work, speeds,
                         shortest_overlap(plan, input, work, speeds, /*under_backward=*/true));
  }
};

/// `units` of `elements` parameters in bf16 with everything on nvme, that compute `tokens` at a
/// time with recomputation, on an accelerator.
Model model_of(std::size_t units, std::int64_t elements, double tokens) {
  Model model;
  for (std::size_t i = 0; i < units; ++i) {
    UnitLayout& unit = model.input.units.emplace_back();
    unit.name = "h." + std::to_string(i);
    unit.add("weight", {elements}, true);
    const double forward = 2.0 * static_cast<double>(elements) * tokens;
    model.work.uses.push_back({i, forward, 2 * forward, forward});
  }
  model.input.format = Precision::kBf16;
  model.input.device_memory_is_host = false;
  model.input.budgets = {Budget::kUnlimited, Budget::kUnlimited, Budget::kUnlimited};
  return model;
}

/// Room on the device for `units` of the model's units.
void limit_device(Model& model, std::uint64_t units) {
  PlanInput least = model.input;
  const std::uint64_t smallest = smallest_budgets(least).device;
  const std::uint64_t region = round_up(model.input.units.front().trainable_count * 2, 4096);
  model.input.budgets.device = smallest + (units - 1) * region;
}

/// Four Gen5 disks and a large accelerator, in round figures.
RankSpeeds fast_machine() {
  return {.compute = 600e12,
          .disk_read = 27e9,
          .disk_write = 11e9,
          .disk_overlap = 1,
          .upload = 55e9,
          .drain = 55e9,
          .update = 300e9,
          .exchange = 100e9};
}

// ---- worked out by hand ------------------------------------------------------------------------

TEST(StepModel, AStepWithNothingToOverlapTakesTheSumOfItsParts) {
  constexpr double kElements = 1 << 19;
  Model model = model_of(1, 1 << 19, 1);
  model.work.uses = {{.unit = 0, .forward = 3e5, .backward = 6e5, .recompute = 2e5}};
  RankSpeeds speeds{.compute = 1e9,
                    .disk_read = 2e9,
                    .disk_write = 1e9,
                    .upload = 8e9,
                    .drain = 4e9,
                    .update = 16e9};
  const double step = 12 * kElements / 2e9     // states and weight arrive
                      + 26 * kElements / 16e9  // the update reads and writes them
                      + 12 * kElements / 1e9;  // they leave
  const double others = 2 * kElements / 2e9 + 2 * kElements / 8e9      // the weight comes, once
                        + 3e5 / 1e9 + 8e5 / 1e9                        // forward and backward
                        + 2 * kElements / 4e9 + 4 * kElements / 16e9;  // the gradient goes home
  const StepForecast forecast = model.forecast(speeds, kSerial);
  EXPECT_NEAR(forecast.seconds, step + others, 1e-9);
  EXPECT_NEAR(forecast.at(Hop::kFetch).busy, 14 * kElements / 2e9, 1e-9);
  EXPECT_NEAR(forecast.at(Hop::kFetch).exposed(), 14 * kElements / 2e9, 1e-9);
  EXPECT_NEAR(forecast.at(Hop::kCompute).busy, 11e5 / 1e9, 1e-9);
  EXPECT_EQ(forecast.binds(), StepResource::kDisk);
  EXPECT_NEAR(forecast.bound_seconds(), 14 * kElements / 2e9 + 12 * kElements / 1e9, 1e-9);
  EXPECT_NEAR(forecast.fraction(), forecast.bound_seconds() / forecast.seconds, 1e-12);
}

/// A step of two windows alone: reads and writes take a second each, an update a quarter.
StepForecast two_windows(double disk_overlap, double disk_in_flight = 0) {
  constexpr double kElements = 1 << 19;
  Model model = model_of(1, 1 << 20, 0);
  model.input.window_elements_max = 1 << 19;
  model.input.parameter_tier = Tier::kDevice;  // nothing is fetched for computing
  model.input.device_memory_is_host = true;
  const RankSpeeds speeds{.compute = 1,
                          .disk_read = 10 * kElements,
                          .disk_write = 10 * kElements,
                          .disk_overlap = disk_overlap,
                          .disk_in_flight = disk_in_flight,
                          .upload = 1,
                          .drain = 1e18,
                          .update = 4 * 26 * kElements};
  return model.forecast(speeds, kSerial);
}

TEST(StepModel, OneWindowIsReadWhileAnotherIsWritten) {
  const double gradient = 8.0 * (1 << 20) / (4 * 26 * (1 << 19));  // it is brought home before
  EXPECT_NEAR(two_windows(/*disk_overlap=*/1).seconds - gradient, 3.25, 1e-6);
}

TEST(StepModel, ADiskWhoseDirectionsShareTheTimeGainsNothingByMixing) {
  const double gradient = 8.0 * (1 << 20) / (4 * 26 * (1 << 19));
  EXPECT_NEAR(two_windows(/*disk_overlap=*/0).seconds - gradient, 4, 1e-6);
}

TEST(StepModel, ADiskThatIsSlowerSideBySideLosesByMixing) {
  const double gradient = 8.0 * (1 << 20) / (4 * 26 * (1 << 19));
  // Three quarters of a second of each are moved at once, and take three seconds for two.
  EXPECT_NEAR(two_windows(/*disk_overlap=*/-1).seconds - gradient, 4 + 0.75, 1e-6);
}

TEST(StepModel, ADiskOverlapsOnlyWhatItsQueueHasInFlight) {
  constexpr double kWindow = 10.0 * (1 << 19);
  const double gradient = 8.0 * (1 << 20) / (4 * 26 * (1 << 19));
  // The first window is written when the second has been read, and not before.
  EXPECT_NEAR(two_windows(/*disk_overlap=*/1, /*disk_in_flight=*/1).seconds - gradient, 4, 1e-6);
  // It is written beside the last half of the second's reading.
  EXPECT_NEAR(two_windows(/*disk_overlap=*/1, kWindow / 2).seconds - gradient, 3.5, 1e-6);
}

TEST(StepModel, WeightsThatAnUpdateDeliversAreNotReadAgain) {
  Model model = model_of(8, 1 << 20, 64);
  model.input.device_memory_is_host = true;
  const double p = model.parameters();
  const auto read = [&](const StepOrder& order) {
    return model.forecast(fast_machine(), order).at(StepLane::kDiskRead).amount;
  };
  EXPECT_DOUBLE_EQ(read(kSerial), 14 * p);
  EXPECT_DOUBLE_EQ(read(kUnderForward), 12 * p);
  model.input.device_memory_is_host = false;  // weights come through slots there
  EXPECT_DOUBLE_EQ(read(kUnderForward), 14 * p);
}

TEST(StepModel, AThreadChecksWhatComesFromTheDiskBeforeItIsUsed) {
  constexpr double kElements = 1 << 19;
  Model model = model_of(1, 1 << 19, 1);
  RankSpeeds speeds{.compute = 1e9,
                    .disk_read = 2e9,
                    .disk_write = 1e9,
                    .upload = 8e9,
                    .drain = 4e9,
                    .update = 16e9};
  const double without = model.forecast(speeds, kSerial).seconds;
  speeds.check = 5e9;
  const StepForecast checked = model.forecast(speeds, kSerial);
  // The weight, and the states; what is written is checked beside the disk.
  EXPECT_NEAR(checked.seconds, without + 14 * kElements / 5e9, 1e-9);
  EXPECT_DOUBLE_EQ(checked.at(StepLane::kCheck).amount, (14 + 12) * kElements);
  EXPECT_DOUBLE_EQ(checked.at(Hop::kFetch).bytes, 14 * kElements);
}

TEST(StepModel, AThreadTakesACoreFromWhatAllOfThemDo) {
  Model model = model_of(8, 1 << 20, 1000);
  model.input.device_memory_is_host = true;
  RankSpeeds speeds = fast_machine();
  speeds.shares_cores = true;
  speeds.compute = 1e12;
  speeds.check = 1e9;
  const auto seconds = [&](double cores) {
    speeds.cores = cores;
    return model.forecast(speeds, kUnderForward).seconds;
  };
  EXPECT_GT(seconds(2), 1.02 * seconds(0));
  EXPECT_GT(seconds(2), seconds(64));
}

TEST(StepModel, ComputationAndUpdatesOnTheSameCoresTakeTheirSum) {
  Model model = model_of(8, 1 << 20, 100);
  model.input.device_memory_is_host = true;
  model.input.parameter_tier = model.input.optimizer_tier = Tier::kHost;
  RankSpeeds speeds = fast_machine();
  speeds.shares_cores = true;
  speeds.compute = 1e12;
  speeds.update = 10e9;
  const StepForecast shared = model.best(speeds);
  EXPECT_NEAR(shared.bound_seconds(),
              shared.at(StepLane::kCompute).seconds + shared.at(StepLane::kUpdate).seconds, 1e-9);
  EXPECT_GE(shared.seconds, shared.bound_seconds());
  speeds.shares_cores = false;
  EXPECT_LT(model.best(speeds).seconds, shared.seconds);
}

// ---- bytes -------------------------------------------------------------------------------------

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

// ---- overlap -----------------------------------------------------------------------------------

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

// ---- properties, at random ---------------------------------------------------------------------

Model random_model(std::mt19937_64& random) {
  const auto one_of = [&](std::initializer_list<double> values) {
    return values.begin()[random() % values.size()];
  };
  Model model =
      model_of(2 + random() % 12, 1 << (16 + random() % 6), one_of({16, 512, 8192, 65536}));
  model.input.device_memory_is_host = random() % 2 == 0;
  constexpr Tier kHomes[] = {Tier::kNvme, Tier::kNvme, Tier::kHost, Tier::kDevice};
  model.input.parameter_tier = kHomes[random() % 4];
  model.input.optimizer_tier = kHomes[random() % 4];
  model.input.world_size = random() % 3 == 0 ? 2 : 1;
  model.input.format.moments = random() % 2 == 0 ? MomentFormat::kInt8 : MomentFormat::kFp32;
  model.work.micro_batches = 1 + random() % 3;
  if (random() % 2 == 0) model.work.loop = StepWork::Loop::kUnitByUnit;
  model.input.accumulate_fp32 = model.work.micro_batches > 1;
  if (random() % 2 == 0) limit_device(model, 1 + random() % 4);
  if (random() % 3 == 0) model.input.budgets.host = smallest_budgets(model.input).host;
  if (random() % 3 == 0) {
    model.input.budgets.host = make_plan(model.input).total.host + random() % 100'000'000;
  }
  return model;
}

RankSpeeds random_speeds(std::mt19937_64& random) {
  RankSpeeds speeds = fast_machine();
  const auto vary = [&](double& speed) {
    speed *= std::exp2(static_cast<double>(random() % 7) - 3);
  };
  for (double* speed : {&speeds.compute, &speeds.disk_read, &speeds.disk_write, &speeds.upload,
                        &speeds.drain, &speeds.update, &speeds.exchange}) {
    vary(*speed);
  }
  speeds.disk_overlap = static_cast<double>(random() % 5) / 4;
  speeds.shares_cores = random() % 2 == 0;
  if (random() % 2 == 0) speeds.disk_in_flight = 1 << 20;
  if (random() % 2 == 0) speeds.check = 10e9;
  if (random() % 2 == 0) speeds.cores = 2;
  return speeds;
}

StepOrder random_order(std::mt19937_64& random) {
  if (random() % 3 == 0) return kSerial;
  return {.kind = StepOrder::Kind::kOverlapped,
          .early_share = static_cast<double>(random() % 5) / 4};
}

TEST(StepModel, NoStepBeatsItsBoundAndTheSameInputGivesTheSameForecast) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    std::mt19937_64 random(seed);
    const Model model = random_model(random);
    const RankSpeeds speeds = random_speeds(random);
    const StepOrder order = random_order(random);
    const StepForecast forecast = model.forecast(speeds, order);
    ASSERT_TRUE(std::isfinite(forecast.seconds)) << seed;
    EXPECT_GE(forecast.seconds, forecast.bound_seconds() * (1 - 1e-9)) << seed;
    for (std::size_t hop = 0; hop < kHopCount; ++hop) {
      EXPECT_LE(forecast.hops[hop].hidden, forecast.hops[hop].busy) << seed;
      EXPECT_LE(forecast.hops[hop].busy, forecast.seconds * (1 + 1e-9)) << seed;
    }
    const StepForecast again = model.forecast(speeds, order);
    EXPECT_EQ(again.seconds, forecast.seconds) << seed;
    for (std::size_t lane = 0; lane < kStepLaneCount; ++lane) {
      EXPECT_EQ(again.lanes[lane].amount, forecast.lanes[lane].amount) << seed;
    }
  }
}

/// The most that a faster lane adds to a step, as a share of it.
double worst_of_faster_lanes(const Model& model, const RankSpeeds& speeds, const StepOrder& order) {
  const double seconds = model.forecast(speeds, order).seconds;
  double worst = 0;
  const auto look_at = [&](const RankSpeeds& faster) {
    worst = std::max(worst, model.forecast(faster, order).seconds / seconds - 1);
  };
  for (double RankSpeeds::*lane :
       {&RankSpeeds::compute, &RankSpeeds::disk_read, &RankSpeeds::disk_write, &RankSpeeds::upload,
        &RankSpeeds::drain, &RankSpeeds::update, &RankSpeeds::exchange}) {
    RankSpeeds faster = speeds;
    faster.*lane *= 1.5;
    look_at(faster);
  }
  RankSpeeds duplex = speeds;
  duplex.disk_overlap = 1;
  look_at(duplex);
  return worst;
}

// What comes to the disk's queue earlier is in front there, which can be the wrong one.
TEST(StepModel, NoFasterLaneMakesASerialStepSlowerByOnePercent) {
  for (std::uint64_t seed = 1; seed <= 120; ++seed) {
    std::mt19937_64 random(seed);
    const Model model = random_model(random);
    EXPECT_LE(worst_of_faster_lanes(model, random_speeds(random), kSerial), 0.01) << seed;
  }
}

// What two queues share goes to the other one when one is early, which can be the wrong one.
TEST(StepModel, NoFasterLaneMakesAnOverlappedStepSlowerByTwoPercent) {
  for (std::uint64_t seed = 1; seed <= 120; ++seed) {
    std::mt19937_64 random(seed);
    const Model model = random_model(random);
    const RankSpeeds speeds = random_speeds(random);
    const StepOrder order{.kind = StepOrder::Kind::kOverlapped,
                          .early_share = static_cast<double>(random() % 5) / 4};
    EXPECT_LE(worst_of_faster_lanes(model, speeds, order), 0.02) << seed;
  }
}

TEST(StepModel, TheOverlappedStepIsNoSlowerThanTheSerialOne) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    std::mt19937_64 random(seed);
    const Model model = random_model(random);
    const RankSpeeds speeds = random_speeds(random);
    const double serial = model.forecast(speeds, kSerial).seconds;
    EXPECT_LE(model.best(speeds).seconds, serial * (1 + 1e-9)) << seed;
  }
}

// ---- what is refused ---------------------------------------------------------------------------

template <class Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "nothing was refused";
}

TEST(StepModel, ALaneWithoutSpeedIsRefusedByItsNameIfItIsNeeded) {
  Model model = model_of(2, 1 << 20, 64);
  RankSpeeds speeds = fast_machine();
  speeds.exchange = 0;
  EXPECT_GT(model.forecast(speeds, kSerial).seconds, 0);
  for (const double speed : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
    speeds.disk_write = speed;
    EXPECT_THAT(refusal([&] { (void)model.forecast(speeds, kSerial); }),
                HasSubstr("needs the speed of \"disk write\""));
  }
}

TEST(StepModel, WorkThatNamesNoUnitAndSharesThatAreNoneAreRefused) {
  const Model good = model_of(2, 1 << 20, 64);
  RankSpeeds speeds = fast_machine();
  Model model = good;
  model.work.uses.push_back({.unit = 7});
  EXPECT_THAT(refusal([&] { (void)model.forecast(speeds, kSerial); }), HasSubstr("is of unit 7"));
  model = good;
  model.work.uses[1].backward = -1;
  EXPECT_THAT(refusal([&] { (void)model.forecast(speeds, kSerial); }), HasSubstr("FLOP"));
  model = good;
  model.work.micro_batches = 0;
  EXPECT_THAT(refusal([&] { (void)model.forecast(speeds, kSerial); }), HasSubstr("micro-batches"));
  EXPECT_THAT(refusal([&] {
                (void)good.forecast(speeds,
                                    {.kind = StepOrder::Kind::kOverlapped, .early_share = 1.5});
              }),
              HasSubstr("a share from 0 to 1"));
  speeds.disk_overlap = 2;
  EXPECT_THAT(refusal([&] { (void)good.forecast(speeds, kSerial); }), HasSubstr("from -4 to 1"));
}

TEST(StepModel, SpansOutOfOrderOrOfTheLastUseOfABatchAreRefused) {
  const Model good = model_of(4, 1 << 20, 64);
  for (const std::vector<UseSpan>& spans :
       {std::vector<UseSpan>{{2, 2}}, {{2, 4}, {1, 3}}, {{3, 5}}}) {
    Model model = good;
    model.work.spans = spans;
    EXPECT_THAT(refusal([&] { (void)model.forecast(fast_machine(), kSerial); }),
                HasSubstr("spans are in order"));
  }
  Model batch = good;
  batch.work.spans = {{2, 4}};
  EXPECT_GT(batch.forecast(fast_machine(), kSerial).seconds, 0);
  batch.work.micro_batches = 2;
  batch.work.loop = StepWork::Loop::kUnitByUnit;
  EXPECT_THAT(refusal([&] { (void)batch.forecast(fast_machine(), kSerial); }),
              HasSubstr("can be run again"));
}

TEST(StepModel, APlanOfOtherUnitsIsRefused) {
  const Model two = model_of(2, 1 << 20, 64);
  const Model three = model_of(3, 1 << 20, 64);
  EXPECT_THROW(
      (void)forecast_step(make_plan(two.input), three.input, three.work, fast_machine(), kSerial),
      UsageError);
}

}  // namespace
}  // namespace strata::zero3
