#include <gtest/gtest.h>

#include <tuple>
#include <vector>

#include "promise/training_run.h"
#include "strata/base/error.h"

/// \file
/// Promise 2: peak bytes per tier equal the plan, and a budget is a bound.

namespace strata::promise::bounded_memory_test {
namespace {

using formats::OffloadDevice;
using tiering::Tier;

class BoundedMemory
    : public testing::TestWithParam<std::tuple<Training, OffloadDevice, OffloadDevice>> {
 protected:
  [[nodiscard]] formats::DsConfig config(const ScratchDirectory& scratch) const {
    const auto& [training, parameters, optimizer] = GetParam();
    formats::DsConfig config = nvme_config(scratch.path(), training);
    config.zero.offload_param.device = parameters;
    config.zero.offload_optimizer.device = optimizer;
    return config;
  }
};

TEST_P(BoundedMemory, PeakBytesOfEveryTierEqualThePlan) {
  ScratchDirectory scratch;
  EngineRun run(config(scratch), small_model());
  for (int step = 0; step < 3; ++step) run.step();
  for (const Tier tier : tiering::kTiers) {
    EXPECT_EQ(run.engine().use(tier).peak, run.engine().plan().total.of(tier)) << name_of(tier);
    EXPECT_EQ(run.engine().use(tier).used, run.engine().plan().total.of(tier)) << name_of(tier);
  }
}

TEST_P(BoundedMemory, NothingIsTakenAfterTheFirstStep) {
  ScratchDirectory scratch;
  EngineRun run(config(scratch), small_model());
  run.step();
  std::uint64_t after_first[3];
  for (int i = 0; i < 3; ++i) after_first[i] = run.engine().use(tiering::kTiers[i]).used;
  for (int step = 0; step < 3; ++step) run.step();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(run.engine().use(tiering::kTiers[i]).peak, after_first[i]);
}

TEST_P(BoundedMemory, TheSmallestBudgetsThatThePlanNamesWork) {
  ScratchDirectory scratch;
  formats::DsConfig bounded = config(scratch);
  zero3::PlanInput input = TestDevice::plan_input(bounded);
  input.units = models::unit_layouts(small_model());
  const zero3::TierBytes smallest = zero3::smallest_budgets(input);
  bounded.strata.device_budget_bytes = smallest.device;
  bounded.strata.host_budget_bytes = smallest.host;
  bounded.strata.nvme_budget_bytes = smallest.nvme;
  EngineRun run(bounded, small_model());
  for (int step = 0; step < 3; ++step) run.step();
  for (const Tier tier : tiering::kTiers) {
    EXPECT_LE(run.engine().use(tier).peak, smallest.of(tier)) << name_of(tier);
  }
}

std::vector<Training> trainings() {
  using formats::OptimizerType;
  std::vector<Training> all;
  const auto add = [&](const char* name, Precision precision, formats::StatesConfig states,
                       const formats::OptimizerConfig& optimizer) {
    all.push_back({name, precision, states, optimizer});
  };
  const formats::OptimizerConfig adamw = optimizer_of(OptimizerType::kAdamW);
  for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16}) {
    add("fp32_states", precision, {}, adamw);
    add("int8_moments", precision, {.moments = MomentFormat::kInt8}, adamw);
  }
  add("bf16_moments", Precision::kBf16, {.moments = MomentFormat::kBf16}, adamw);
  add("24bit_int8", Precision::kBf16, {MomentFormat::kInt8, MasterFormat::k24Bit}, adamw);
  add("sgd", Precision::kFp32, {}, optimizer_of(OptimizerType::kSgd, /*momentum=*/0.0));
  add("sgd_momentum", Precision::kBf16, {MomentFormat::kInt8, MasterFormat::k24Bit},
      optimizer_of(OptimizerType::kSgd));
  add("adagrad", Precision::kBf16, {.moments = MomentFormat::kBf16},
      optimizer_of(OptimizerType::kAdagrad));
  add("lion", Precision::kFp16, {.moments = MomentFormat::kInt8},
      optimizer_of(OptimizerType::kLion));
  return all;
}

INSTANTIATE_TEST_SUITE_P(Placements, BoundedMemory,
                         testing::Combine(testing::ValuesIn(trainings()),
                                          testing::Values(OffloadDevice::kNone, OffloadDevice::kCpu,
                                                          OffloadDevice::kNvme),
                                          testing::Values(OffloadDevice::kCpu,
                                                          OffloadDevice::kNvme)));

TEST(BoundedMemory, ABudgetTooSmallIsRefusedBeforeTheFirstForward) {
  ScratchDirectory scratch;
  formats::DsConfig config = nvme_config(scratch.path(), Precision::kBf16);
  config.strata.host_budget_bytes = 300'000;
  EngineRun run(config, small_model());
  EXPECT_THROW(run.engine().prepare(), BudgetError);
}

}  // namespace
}  // namespace strata::promise::bounded_memory_test
