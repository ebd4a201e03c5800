#include "zero3/training_state.h"

#include <gtest/gtest.h>

#include "strata/base/error.h"

namespace strata::zero3::training_state_test {
namespace {

formats::Fp16Config dynamic_scale() {
  formats::Fp16Config config;
  config.enabled = true;
  config.initial_scale_power = 8;
  config.loss_scale_window = 3;
  config.hysteresis = 2;
  return config;
}

TrainingState fresh() {
  TrainingState state;
  state.scaler = LossScaler(dynamic_scale());
  return state;
}

/// A state in the middle of a run: between micro-batches, rates set, one overflow forgiven.
TrainingState midway() {
  TrainingState state = fresh();
  state.step = 12'345'678'901;
  state.micro_steps = 3;
  state.rates = {{"", 0.1}, {"no \"decay\"\n", 1e-300}};
  for (const bool overflow : {false, true, false, false, true}) state.scaler.update(overflow);
  return state;
}

TEST(TrainingState, IsReadBackBitForBit) {
  EXPECT_NE(midway(), fresh());
  EXPECT_EQ(resumed(fresh(), to_json(midway()), "state.json"), midway());
  EXPECT_EQ(resumed(midway(), to_json(fresh()), "state.json"), fresh());
}

TEST(TrainingState, GoesOnAsTheRunThatWasNotInterrupted) {
  TrainingState whole = midway();
  TrainingState after = resumed(fresh(), to_json(midway()), "state.json");
  for (const bool overflow : {true, false, false, false, false, true, true, false}) {
    whole.scaler.update(overflow);
    after.scaler.update(overflow);
    EXPECT_EQ(after, whole);
  }
}

TEST(TrainingState, KeepsAStaticLossScaleAsTheConfigSays) {
  formats::Fp16Config config;
  config.enabled = true;
  config.loss_scale = 64;
  TrainingState state;
  state.scaler = LossScaler(config);
  EXPECT_EQ(resumed(state, to_json(midway()), "state.json").scaler.scale(), 64);
}

TEST(TrainingState, RefusesWhatIsNotOneAndSaysWhere) {
  const auto refusal = [](const std::string& text) -> std::string {
    try {
      static_cast<void>(resumed(fresh(), text, "state.json"));
    } catch (const DataError& error) {
      return error.what();
    }
    return "accepted";
  };
  const auto with = [](std::string_view what, std::string_view instead) {
    std::string text = to_json(midway());
    const std::size_t place = text.find(what);
    EXPECT_NE(place, std::string::npos) << what;
    return text.replace(place, what.size(), instead);
  };
  EXPECT_EQ(refusal(to_json(midway())), "accepted");
  EXPECT_NE(refusal("{}").find("step"), std::string::npos);
  EXPECT_NE(refusal(with("\"step\": 12345678901", "\"step\": -1")).find("step"), std::string::npos);
  EXPECT_NE(refusal(with("\"micro_steps\": 3", "\"micro_steps\": 0.5")).find("micro_steps"),
            std::string::npos);
  EXPECT_NE(refusal(with("0.1", "-0.1")).find("learning rate"), std::string::npos);
  EXPECT_NE(refusal(with("\"scale\": ", "\"scale\": -")).find("above 0"), std::string::npos);
  EXPECT_NE(
      refusal(with("\"last_overflow_step\": ", "\"last_overflow_step\": 9")).find("below steps"),
      std::string::npos);
  EXPECT_NE(refusal(to_json(midway()).substr(0, 20)).find("state.json"), std::string::npos);
}

TEST(TrainingState, RefusesToWriteTheNameOfAGroupThatIsNotText) {
  TrainingState state;
  state.rates = {{"\xff", 0.1}};
  EXPECT_THROW(static_cast<void>(to_json(state)), UsageError);
}

}  // namespace
}  // namespace strata::zero3::training_state_test
