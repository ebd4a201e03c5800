#include <gtest/gtest.h>

#include "promise/training_run.h"
#include "strata/base/error.h"

/// \file
/// Promise 2: peak bytes per tier equal the plan, and a budget is a bound.

namespace strata::promise {
namespace {

using formats::OffloadDevice;
using tiering::Tier;

constexpr Tier kTiers[] = {Tier::kDevice, Tier::kHost, Tier::kNvme};

class BoundedMemory
    : public testing::TestWithParam<std::tuple<Precision, OffloadDevice, OffloadDevice>> {
 protected:
  [[nodiscard]] formats::DsConfig config(const ScratchDirectory& scratch) const {
    const auto& [precision, parameters, optimizer] = GetParam();
    formats::DsConfig config = nvme_config(scratch.path(), precision);
    config.zero.offload_param.device = parameters;
    config.zero.offload_optimizer.device = optimizer;
    return config;
  }
};

TEST_P(BoundedMemory, PeakBytesOfEveryTierEqualThePlan) {
  ScratchDirectory scratch;
  EngineRun run(config(scratch), small_model());
  for (int step = 0; step < 3; ++step) run.step();
  for (const Tier tier : kTiers) {
    EXPECT_EQ(run.engine().use(tier).peak, run.engine().plan().total.of(tier)) << name_of(tier);
    EXPECT_EQ(run.engine().use(tier).used, run.engine().plan().total.of(tier)) << name_of(tier);
  }
}

TEST_P(BoundedMemory, NothingIsTakenAfterTheFirstStep) {
  ScratchDirectory scratch;
  EngineRun run(config(scratch), small_model());
  run.step();
  std::uint64_t after_first[3];
  for (int i = 0; i < 3; ++i) after_first[i] = run.engine().use(kTiers[i]).used;
  for (int step = 0; step < 3; ++step) run.step();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(run.engine().use(kTiers[i]).peak, after_first[i]);
}

TEST_P(BoundedMemory, TheSmallestBudgetsThatThePlanNamesWork) {
  ScratchDirectory scratch;
  formats::DsConfig bounded = config(scratch);
  zero3::PlanInput input = Engine::plan_input_from(bounded);
  input.units = models::unit_layouts(small_model());
  const zero3::TierBytes smallest = zero3::smallest_budgets(input);
  bounded.strata.device_budget_bytes = smallest.device;
  bounded.strata.host_budget_bytes = smallest.host;
  bounded.strata.nvme_budget_bytes = smallest.nvme;
  EngineRun run(bounded, small_model());
  for (int step = 0; step < 3; ++step) run.step();
  for (const Tier tier : kTiers) {
    EXPECT_LE(run.engine().use(tier).peak, smallest.of(tier)) << name_of(tier);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Placements, BoundedMemory,
    testing::Combine(testing::Values(Precision::kFp32, Precision::kBf16, Precision::kFp16),
                     testing::Values(OffloadDevice::kNone, OffloadDevice::kCpu,
                                     OffloadDevice::kNvme),
                     testing::Values(OffloadDevice::kCpu, OffloadDevice::kNvme)));

TEST(BoundedMemory, ABudgetTooSmallIsRefusedBeforeTheFirstForward) {
  ScratchDirectory scratch;
  formats::DsConfig config = nvme_config(scratch.path(), Precision::kBf16);
  config.strata.host_budget_bytes = 300'000;
  EngineRun run(config, small_model());
  EXPECT_THROW(run.engine().prepare(), BudgetError);
}

}  // namespace
}  // namespace strata::promise
