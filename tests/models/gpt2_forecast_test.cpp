#include <gtest/gtest.h>

#include "strata/base/units.h"
#include "strata/models/gpt2_layout.h"
#include "strata/tiering/budget.h"
#include "strata/zero3/plan.h"
#include "strata/zero3/step_model.h"

namespace strata::models::gpt2_forecast_test {
namespace {

/// The step of docs/results/step_benchmark.md on NVMe, whose bytes the engine has counted.
zero3::StepForecast forecast_of_the_benchmark() {
  Gpt2Config config = Gpt2Config::preset("gpt2");
  config.vocab_size = 50304;
  zero3::PlanInput input;
  input.units = unit_layouts(config);
  input.format = Precision::kBf16;
  input.budgets = {91_MiB, 292_MiB, tiering::Budget::kUnlimited};
  const zero3::StepWork work = step_work(config, {.sequences = 1, .length = 128}, 1, true);
  const zero3::RankSpeeds speeds{.compute = 1e11,
                                 .disk_read = 4e9,
                                 .disk_write = 4e9,
                                 .upload = 15e9,
                                 .drain = 12e9,
                                 .update = 65e9,
                                 .shares_cores = true};
  return zero3::forecast_step(zero3::make_plan(input), input, work, speeds, {});
}

TEST(Gpt2Forecast, AStepMovesTheBytesThatTheEngineHasCounted) {
  const zero3::StepForecast forecast = forecast_of_the_benchmark();
  const auto gigabytes = [&](Hop hop) { return forecast.at(hop).bytes / 1e9; };
  EXPECT_NEAR(gigabytes(Hop::kFetch), 1.90, 0.005);
  EXPECT_NEAR(gigabytes(Hop::kUpload), 0.31, 0.005);
  EXPECT_NEAR(gigabytes(Hop::kGather), 0.405, 0.0005);
  EXPECT_EQ(gigabytes(Hop::kReduce), 0) << "gradients go straight home";
  EXPECT_NEAR(gigabytes(Hop::kDrain), 0.328, 0.0005);
  EXPECT_NEAR(gigabytes(Hop::kFlush), 1.494, 0.0005);
}

}  // namespace
}  // namespace strata::models::gpt2_forecast_test
