#include "strata/zero3/loss_scaler.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include "strata/base/error.h"

// The expected scales are those that DeepSpeed 0.19's DynamicLossScaler goes through for the same
// outcomes and settings.

namespace strata::zero3::loss_scaler_test {
namespace {

formats::Fp16Config dynamic(std::int64_t power, std::int64_t window, std::int64_t hysteresis) {
  formats::Fp16Config config;
  config.enabled = true;
  config.initial_scale_power = power;
  config.loss_scale_window = window;
  config.hysteresis = hysteresis;
  return config;
}

// The scale after each step of `outcomes`: 'x' is an overflow, '.' a step without.
std::vector<double> scales_after(LossScaler scaler, std::string_view outcomes) {
  std::vector<double> scales;
  for (const char outcome : outcomes) {
    scaler.update(outcome == 'x');
    scales.push_back(scaler.scale());
  }
  return scales;
}

using Scales = std::vector<double>;

TEST(LossScaler, IsOneForEverWithoutFp16) {
  EXPECT_EQ(scales_after(LossScaler(), "..xx"), Scales(4, 1.0));
  EXPECT_EQ(scales_after(LossScaler(formats::Fp16Config{}), "..xx"), Scales(4, 1.0));
}

TEST(LossScaler, AStaticScaleNeverChanges) {
  formats::Fp16Config config;
  config.enabled = true;
  config.loss_scale = 128;
  LossScaler scaler(config);
  EXPECT_EQ(scaler.scale(), 128);
  EXPECT_EQ(scales_after(scaler, ".xxx.."), Scales(6, 128.0));
}

TEST(LossScaler, StartsAtTheInitialPowerOfTwo) {
  EXPECT_EQ(LossScaler(dynamic(16, 1000, 2)).scale(), 65536);
}

TEST(LossScaler, DoublesAfterEveryWindowOfStepsWithoutOverflow) {
  EXPECT_EQ(scales_after(LossScaler(dynamic(4, 2, 1)), "......."),
            (Scales{16, 16, 32, 32, 64, 64, 128}));
}

TEST(LossScaler, HalvesOnOverflowAndStartsTheWindowAnew) {
  EXPECT_EQ(scales_after(LossScaler(dynamic(4, 3, 1)), "..x......x...."),
            (Scales{16, 16, 8, 8, 8, 8, 16, 16, 16, 8, 8, 8, 8, 16}));
}

TEST(LossScaler, HysteresisForgivesOverflowsUntilTheScaleGrowsAgain) {
  EXPECT_EQ(scales_after(LossScaler(dynamic(6, 4, 2)), "x.x.x.....x.x"),
            (Scales{64, 64, 32, 32, 16, 16, 16, 16, 16, 32, 32, 32, 16}));
}

TEST(LossScaler, ConsecutiveHysteresisForgivesAnewAfterEveryGoodStep) {
  formats::Fp16Config config = dynamic(6, 4, 2);
  config.consecutive_hysteresis = true;
  EXPECT_EQ(scales_after(LossScaler(config), "x.x.xx.x"), (Scales{64, 64, 64, 64, 64, 32, 32, 32}));
}

TEST(LossScaler, OverflowAtTheMinimumIsAnError) {
  LossScaler scaler(dynamic(2, 4, 1));
  scaler.update(true);
  scaler.update(true);
  EXPECT_EQ(scaler.scale(), 1);
  EXPECT_THROW(scaler.update(true), Error);
}

TEST(LossScaler, HysteresisHoldsAtTheMinimumToo) {
  LossScaler scaler(dynamic(2, 4, 2));
  EXPECT_EQ(scales_after(scaler, "xxx"), (Scales{4, 2, 1}));
  EXPECT_THROW((void)scales_after(scaler, "xxxx"), Error);
}

TEST(LossScaler, NeverGoesBelowTheMinimum) {
  formats::Fp16Config config = dynamic(3, 4, 1);
  config.min_loss_scale = 6;
  EXPECT_EQ(scales_after(LossScaler(config), "x"), Scales{6});
}

TEST(LossScaler, RefusesValuesOutOfRange) {
  const auto expect_refused = [](auto change) {
    formats::Fp16Config config = dynamic(16, 1000, 2);
    change(config);
    EXPECT_THROW((void)LossScaler(config), ConfigError);
  };
  expect_refused([](auto& c) { c.loss_scale = -1; });
  expect_refused([](auto& c) { c.initial_scale_power = 127; });
  expect_refused([](auto& c) { c.loss_scale_window = 0; });
  expect_refused([](auto& c) { c.hysteresis = 0; });
  expect_refused([](auto& c) { c.min_loss_scale = 0; });
}

}  // namespace
}  // namespace strata::zero3::loss_scaler_test
