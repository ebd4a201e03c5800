#include "strata/zero3/step_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "zero3/step_models.h"

namespace strata::zero3::step_properties_test {
namespace {

using tiering::Tier;

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
  if (model.input.world_size > 1) model.input.stage = static_cast<int>(random() % 4);
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
    EXPECT_GE(forecast.seconds, forecast.cycle_seconds * (1 - 1e-9)) << seed;
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
TEST(StepModel, NoFasterLaneMakesAnOverlappedStepSlowerByThreePercent) {
  for (std::uint64_t seed = 1; seed <= 120; ++seed) {
    std::mt19937_64 random(seed);
    const Model model = random_model(random);
    const RankSpeeds speeds = random_speeds(random);
    const StepOrder order{.kind = StepOrder::Kind::kOverlapped,
                          .early_share = static_cast<double>(random() % 5) / 4};
    EXPECT_LE(worst_of_faster_lanes(model, speeds, order), 0.03) << seed;
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

}  // namespace
}  // namespace strata::zero3::step_properties_test
