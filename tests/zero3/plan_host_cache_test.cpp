#include "strata/zero3/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "strata/base/units.h"
#include "strata/formats/ds_config.h"
#include "strata/tiering/budget.h"
#include "zero3/plan_inputs.h"

namespace strata::zero3::plan_host_cache_test {
namespace {

using testing::HasSubstr;
using tiering::Budget;
using tiering::Tier;

/// Gives the plan the host memory that it takes without this, and `more`.
void give_host_memory(PlanInput& input, std::uint64_t more) {
  input.budgets.host = Budget::kUnlimited;
  input.budgets.host = make_plan(input).total.host + more;
}

/// Four units of 1 Mi parameters in bf16, everything on nvme.
PlanInput with_host_memory(std::uint64_t more) {
  PlanInput input;
  input.units.assign(4, unit_of(1 << 20));
  input.format = Precision::kBf16;
  input.budgets = kUnlimited;
  give_host_memory(input, more);
  return input;
}

/// The states that a plan keeps, a word for each unit: "wlmv" for all, "-" for none.
std::vector<std::string> kept(const Plan& plan) {
  std::vector<std::string> words;
  for (const CachedStates& cached : plan.cached) {
    std::string& word = words.emplace_back();
    if (cached.has(StateKind::kWeight)) word += 'w';
    if (cached.has(StateKind::kMaster)) word += 'l';
    if (cached.has(StateKind::kM)) word += 'm';
    if (cached.has(StateKind::kV)) word += 'v';
    if (word.empty()) word = "-";
  }
  return words;
}

constexpr const char* kWeightsKept = "weights kept in host memory";
constexpr const char* kStatesKept = "optimizer states kept in host memory";

TEST(PlanOfTheHostCache, WeightsComeBeforeOptimizerStatesAndTheFirstUnitsBeforeTheOthers) {
  // A weight has 2 MiB, its remainder too, a moment 4.
  const auto kept_with = [](std::uint64_t more) {
    const PlanInput input = with_host_memory(more);
    return kept(make_plan(input));
  };
  using Words = std::vector<std::string>;
  EXPECT_EQ(kept_with(0), (Words{"-", "-", "-", "-"}));
  EXPECT_EQ(kept_with(2_MiB - 1), (Words{"-", "-", "-", "-"}));
  EXPECT_EQ(kept_with(2_MiB), (Words{"w", "-", "-", "-"}));
  EXPECT_EQ(kept_with(8_MiB - 1), (Words{"w", "w", "w", "-"}));
  EXPECT_EQ(kept_with(8_MiB), (Words{"w", "w", "w", "w"}));
  EXPECT_EQ(kept_with(8_MiB + 6_MiB), (Words{"wlm", "w", "w", "w"}));
  // A moment that has no room leaves it to the next unit's remainder.
  EXPECT_EQ(kept_with(8_MiB + 8_MiB), (Words{"wlm", "wl", "w", "w"}));
  EXPECT_EQ(kept_with(8_MiB + 40_MiB), (Words{"wlmv", "wlmv", "wlmv", "wlmv"}));
  EXPECT_EQ(kept_with(Budget::kUnlimited / 2), (Words{"wlmv", "wlmv", "wlmv", "wlmv"}));
}

TEST(PlanOfTheHostCache, TakesItsBytesFromTheHostBudgetAndGivesNoneOfNvmeBack) {
  const Plan without = make_plan(with_host_memory(0));
  for (const std::uint64_t more : {2_MiB, 5_MiB, 13_MiB, 48_MiB, 1_GiB}) {
    const PlanInput input = with_host_memory(more);
    const Plan plan = make_plan(input);
    const std::uint64_t bytes = bytes_of(plan, kWeightsKept) + bytes_of(plan, kStatesKept);
    EXPECT_EQ(plan.total.host, without.total.host + bytes);
    EXPECT_LE(plan.total.host, input.budgets.host);
    EXPECT_EQ(bytes, std::min<std::uint64_t>(more / 2_MiB * 2_MiB, 48_MiB)) << more;
    EXPECT_EQ(plan.total.nvme, without.total.nvme);
    EXPECT_EQ(plan.total.device, without.total.device);
    EXPECT_THAT(describe(plan, input), HasSubstr(kWeightsKept));
  }
}

TEST(PlanOfTheHostCache, IsEmptyWhereNoBudgetIsNamedOrTheConfigSaysSo) {
  PlanInput input = with_host_memory(1_GiB);
  input.host_cache = false;
  EXPECT_EQ(bytes_of(make_plan(input), kWeightsKept), 0u);
  input.host_cache = true;
  input.budgets.host = Budget::kUnlimited;
  EXPECT_EQ(bytes_of(make_plan(input), kWeightsKept), 0u);

  formats::DsConfig config;
  config.zero.offload_param.device = formats::OffloadDevice::kNvme;
  config.strata.nvme_directories = {"/disk"};
  EXPECT_FALSE(plan_input_from(config).host_cache);
  config.strata.host_budget_bytes = 1_GiB;
  EXPECT_TRUE(plan_input_from(config).host_cache);
  config.strata.host_cache = false;
  EXPECT_FALSE(plan_input_from(config).host_cache);
}

TEST(PlanOfTheHostCache, HoldsOnlyStatesWhoseHomeIsNvme) {
  PlanInput input = with_host_memory(1_GiB);
  input.parameter_tier = Tier::kHost;
  EXPECT_EQ(kept(make_plan(input)), (std::vector<std::string>(4, "lmv")));
  input.parameter_tier = Tier::kNvme;
  input.optimizer_tier = Tier::kDevice;
  EXPECT_EQ(kept(make_plan(input)), (std::vector<std::string>(4, "w")));
}

TEST(PlanOfTheHostCache, KeepsAsManyWeightsAsTheConfigAllowsAndTheRestForStates) {
  PlanInput input = with_host_memory(12_MiB);
  input.cached_weights_max = (3 << 20) - 1;
  EXPECT_EQ(kept(make_plan(input)), (std::vector<std::string>{"wlm", "wl", "-", "-"}));
  input.world_size = 2;  // they are those of a rank
  EXPECT_EQ(bytes_of(make_plan(input), kWeightsKept), 4_MiB);

  formats::DsConfig config;
  EXPECT_EQ(plan_input_from(config).cached_weights_max, UINT64_MAX);
  config.zero.offload_param.max_in_cpu = 12;
  EXPECT_EQ(plan_input_from(config).cached_weights_max, 12u);
}

TEST(PlanOfTheHostCache, KeepsNoFrozenUnitThatNeverLeavesTheDevice) {
  PlanInput input = with_host_memory(6_MiB);
  input.units[0] = unit_of(0, 1 << 20);
  give_host_memory(input, 6_MiB);
  EXPECT_EQ(kept(make_plan(input)), (std::vector<std::string>{"-", "w", "w", "w"}));
  input.reuse_distance_max = 1'000'000'000;  // it may be given back
  EXPECT_EQ(kept(make_plan(input))[0], "w");
  input.reuse_distance_max = PlanInput::kNoBound;
  input.budgets.device = smallest_budgets(input).device;
  EXPECT_EQ(kept(make_plan(input))[0], "w");
}

TEST(PlanOfTheHostCache, ComesAfterStagingAndGradients) {
  PlanInput input = gpt2_like();
  input.budgets.host = make_plan(input).total.host - 1;
  const Plan plan = make_plan(input);
  input.host_cache = false;
  const Plan least = make_plan(input);
  EXPECT_EQ(plan.fetch_slots, least.fetch_slots);
  EXPECT_EQ(plan.windows, least.windows);
  EXPECT_EQ(plan.gradient_tier, least.gradient_tier);
  EXPECT_GE(plan.total.host, least.total.host);
}

}  // namespace
}  // namespace strata::zero3::plan_host_cache_test
