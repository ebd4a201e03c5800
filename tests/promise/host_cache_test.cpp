#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "promise/training_run.h"
#include "strata/models/gpt2_layout.h"
#include "strata/tiering/budget.h"

/// \file
/// States whose home is nvme and that a named host budget has room for: the same bits wherever they
/// are kept, within the budget, and not a byte of them moved in a step.

namespace strata::promise::host_cache_test {
namespace {

using tiering::Budget;
using tiering::Tier;

constexpr int kSteps = 4;
constexpr StateKind kKinds[] = {StateKind::kWeight, StateKind::kMaster, StateKind::kM,
                                StateKind::kV};

/// Norms in fp32 beside bf16, and states of each kind.
formats::DsConfig mixed_config(const ScratchDirectory& scratch) {
  formats::DsConfig config = nvme_config(scratch.path(), Precision::kBf16, /*accumulation=*/2);
  config.strata.keep_fp32 = {"ln_*"};
  return config;
}

zero3::PlanInput input_of(const formats::DsConfig& config) {
  zero3::PlanInput input = TestDevice::plan_input(config);
  input.units = models::unit_layouts(small_model(), config.fp32_patterns());
  return input;
}

/// Names a host budget with room for `hundredths` of what rests on nvme.
void keep(formats::DsConfig& config, std::uint64_t hundredths) {
  config.strata.host_budget_bytes = host_budget_that_keeps(input_of(config), hundredths);
}

/// Counts units that keep a state of the kind.
std::size_t kept(const zero3::Plan& plan, StateKind kind) {
  return static_cast<std::size_t>(std::count_if(plan.cached.begin(), plan.cached.end(),
                                                [&](const auto& c) { return c.has(kind); }));
}

struct Moved {
  std::uint64_t fetched, flushed;
};

/// The bytes of a step that has room for all units on the device.
Moved moved_by_plan(const zero3::Plan& plan, const zero3::PlanInput& input) {
  Moved moved{};
  for (std::size_t i = 0; i < input.units.size(); ++i) {
    const zero3::UnitLayout& unit = input.units[i];
    for (const StateKind kind : kKinds) {
      if (plan.cached[i].has(kind)) continue;
      const std::uint64_t bytes =
          unit.trainable_count * state_bytes(input.format, kind) +
          unit.fp32_trainable_count * state_bytes(zero3::kept_in_fp32(input.format), kind);
      moved.fetched += bytes * (kind == StateKind::kWeight ? 2 : 1);  // forward's, and the step's
      moved.flushed += bytes;
    }
  }
  return moved;
}

Moved moved_by_a_step(EngineRun& run) {
  for (int step = 0; step < 3; ++step) run.step();
  const CounterReading before = run.engine().counters();
  run.step();
  const CounterReading moved = run.engine().counters() - before;
  return {moved[Hop::kFetch].bytes, moved[Hop::kFlush].bytes};
}

class HostCache : public testing::TestWithParam<std::uint64_t> {};

TEST_P(HostCache, ChangesNoBit) {
  Parameters expected;
  {
    const ScratchDirectory scratch;
    EngineRun run(mixed_config(scratch), small_model());
    for (int step = 0; step < kSteps; ++step) run.step();
    EXPECT_EQ(kept(run.engine().plan(), StateKind::kWeight), 0u);
    expected = run.parameters();
  }
  for (const bool room_for_one_unit : {false, true}) {
    SCOPED_TRACE(room_for_one_unit);
    const ScratchDirectory scratch;
    formats::DsConfig config = mixed_config(scratch);
    keep(config, GetParam());
    if (room_for_one_unit) {
      config.strata.device_budget_bytes = zero3::smallest_budgets(input_of(config)).device;
    }
    EngineRun run(config, small_model());
    for (int step = 0; step < kSteps; ++step) run.step();
    expect_equal_bits(run.parameters(), expected);
  }
}

TEST_P(HostCache, StaysWithinTheBudgetToTheByteOfThePlan) {
  const ScratchDirectory scratch;
  formats::DsConfig config = mixed_config(scratch);
  keep(config, GetParam());
  EngineRun run(config, small_model());
  for (int step = 0; step < 2; ++step) run.step();
  for (const Tier tier : tiering::kTiers) {
    EXPECT_EQ(run.engine().use(tier).peak, run.engine().plan().total.of(tier)) << name_of(tier);
  }
  EXPECT_LE(run.engine().use(Tier::kHost).peak, *config.strata.host_budget_bytes);
}

TEST_P(HostCache, AStepMovesTheBytesOfWhatIsNotKept) {
  const ScratchDirectory scratch;
  formats::DsConfig config = mixed_config(scratch);
  config.strata.overlap_step = false;  // weights handed over from a window would not be fetched
  keep(config, GetParam());
  EngineRun run(config, small_model());
  const Moved moved = moved_by_a_step(run);
  const Moved expected = moved_by_plan(run.engine().plan(), run.engine().plan_input());
  EXPECT_EQ(moved.fetched, expected.fetched);
  EXPECT_EQ(moved.flushed, expected.flushed);
}

INSTANTIATE_TEST_SUITE_P(Hundredths, HostCache, testing::Values(0, 10, 50, 100),
                         [](const auto& tested) { return std::to_string(tested.param); });

TEST(HostCache, OfEverythingMovesNothing) {
  const ScratchDirectory scratch;
  formats::DsConfig config = mixed_config(scratch);
  keep(config, 100);
  config.strata.device_budget_bytes = zero3::smallest_budgets(input_of(config)).device;
  EngineRun run(config, small_model());
  const Moved moved = moved_by_a_step(run);
  EXPECT_EQ(moved.fetched, 0u);
  EXPECT_EQ(moved.flushed, 0u);
}

TEST(HostCache, OfHalfTheStatesHalvesTheTransfers) {
  const auto moved_with = [](std::uint64_t hundredths) {
    const ScratchDirectory scratch;
    formats::DsConfig config = mixed_config(scratch);
    keep(config, hundredths);
    EngineRun run(config, small_model());
    return moved_by_a_step(run);
  };
  const Moved none = moved_with(0);
  const Moved half = moved_with(50);
  // A whole state of a unit may have missed its place, by less than a tenth of all.
  EXPECT_NEAR(static_cast<double>(half.flushed) / static_cast<double>(none.flushed), 0.5, 0.1);
  EXPECT_LT(half.fetched, none.fetched / 2 + none.fetched / 20);
}

TEST(HostCache, KeepsNothingWhereTheConfigSaysSo) {
  const ScratchDirectory scratch;
  formats::DsConfig config = mixed_config(scratch);
  keep(config, 100);
  config.strata.host_cache = false;
  EngineRun run(config, small_model());
  run.step();
  for (const StateKind kind : kKinds) EXPECT_EQ(kept(run.engine().plan(), kind), 0u);
}

TEST(HostCache, HasRoomForTheStatesThatTheNamesOfTheseTestsSay) {
  const ScratchDirectory scratch;
  const auto plan_with = [&](std::uint64_t hundredths) {
    zero3::PlanInput input = input_of(mixed_config(scratch));
    input.budgets.host = host_budget_that_keeps(input, hundredths);
    input.host_cache = true;
    return zero3::make_plan(input);
  };
  const std::size_t units = plan_with(0).cached.size();
  EXPECT_EQ(kept(plan_with(0), StateKind::kWeight), 0u);
  EXPECT_GT(kept(plan_with(10), StateKind::kWeight), 0u);
  EXPECT_LT(kept(plan_with(10), StateKind::kWeight), units);
  EXPECT_EQ(kept(plan_with(50), StateKind::kWeight), units);
  EXPECT_GT(kept(plan_with(50), StateKind::kM), 0u);
  EXPECT_LT(kept(plan_with(50), StateKind::kM), units);
  for (const StateKind kind : kKinds) EXPECT_EQ(kept(plan_with(100), kind), units);
}

}  // namespace
}  // namespace strata::promise::host_cache_test
