#include "strata/zero3/step_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "strata/base/error.h"
#include "zero3/step_models.h"

namespace strata::zero3::step_model_test {
namespace {

using testing::HasSubstr;
using tiering::Tier;

template <class Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "nothing was refused";
}

TEST(StepModel, AStepWithNothingToOverlapTakesTheSumOfItsParts) {
  constexpr double kElements = 1 << 19;
  const Model model = one_unit();
  RankSpeeds speeds = slow_machine();
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
  const double gradient = 4.0 * (1 << 20) / (4 * 26 * (1 << 19));  // it is brought home before
  EXPECT_NEAR(two_windows(/*disk_overlap=*/1).seconds - gradient, 3.25, 1e-6);
}

TEST(StepModel, ADiskWhoseDirectionsShareTheTimeGainsNothingByMixing) {
  const double gradient = 4.0 * (1 << 20) / (4 * 26 * (1 << 19));
  EXPECT_NEAR(two_windows(/*disk_overlap=*/0).seconds - gradient, 4, 1e-6);
}

TEST(StepModel, ADiskThatIsSlowerSideBySideLosesByMixing) {
  const double gradient = 4.0 * (1 << 20) / (4 * 26 * (1 << 19));
  // Three quarters of a second of each are moved at once, and take three seconds for two.
  EXPECT_NEAR(two_windows(/*disk_overlap=*/-1).seconds - gradient, 4 + 0.75, 1e-6);
}

TEST(StepModel, ADiskOverlapsOnlyWhatItsQueueHasInFlight) {
  constexpr double kWindow = 10.0 * (1 << 19);
  const double gradient = 4.0 * (1 << 20) / (4 * 26 * (1 << 19));
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
  RankSpeeds speeds = slow_machine();
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

TEST(StepModel, GradientsAreAddedAtASpeedOfTheirOwn) {
  constexpr double kElements = 1 << 19;
  const Model model = model_of(1, 1 << 19, 1);
  RankSpeeds speeds = slow_machine();
  const StepForecast as_updates = model.forecast(speeds, kSerial);
  speeds.add = 4e9;
  const StepForecast slower = model.forecast(speeds, kSerial);
  const double more = 4 * kElements / 4e9 - 4 * kElements / 16e9;
  EXPECT_NEAR(slower.seconds, as_updates.seconds + more, 1e-9);
  EXPECT_NEAR(slower.at(StepLane::kUpdate).seconds, as_updates.at(StepLane::kUpdate).seconds + more,
              1e-9);
}

TEST(StepModel, ADiskIsSlowerWhileTheCoresThatServeItCompute) {
  Model model = model_of(8, 1 << 20, 2000);
  model.input.device_memory_is_host = true;
  RankSpeeds speeds = fast_machine();
  speeds.compute = 1e13;
  speeds.disk_read = speeds.disk_write = 1e9;
  const auto seconds = [&](double beside_compute, bool shares_cores) {
    speeds.disk_beside_compute = beside_compute;
    speeds.shares_cores = shares_cores;
    return model.forecast(speeds, kUnderForward).seconds;
  };
  EXPECT_GT(seconds(0.5, true), 1.001 * seconds(1, true));
  EXPECT_LT(seconds(0.5, true), 2 * seconds(1, true));
  EXPECT_EQ(seconds(0.5, false), seconds(1, false)) << "an accelerator computes";
  EXPECT_THAT(refusal([&] { (void)seconds(0, true); }), HasSubstr("a share above 0"));
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

// ---- what is refused ---------------------------------------------------------------------------

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

TEST(StepModel, APlanOfOtherUnitsIsRefused) {
  const Model two = model_of(2, 1 << 20, 64);
  const Model three = model_of(3, 1 << 20, 64);
  EXPECT_THROW(
      (void)forecast_step(make_plan(two.input), three.input, three.work, fast_machine(), kSerial),
      UsageError);
}

}  // namespace
}  // namespace strata::zero3::step_model_test
