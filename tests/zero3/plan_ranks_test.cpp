#include "strata/zero3/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "strata/base/error.h"
#include "zero3/plan_inputs.h"

namespace strata::zero3 {
namespace {

using testing::HasSubstr;
using tiering::Tier;

TEST(Plan, WhatRestsIsSharedOutToTheRanksAndDiffersFromTheWholeByPaddingOnly) {
  for (const StateFormat& format : all_formats()) {
    for (const Tier tier : {Tier::kNvme, Tier::kHost}) {
      PlanInput input = gpt2_like();
      input.units[2].add("frozen", {123'457}, false);
      input.units[3].add("norm", {64'321}, true, /*keep_fp32=*/true);
      input.format = format;
      input.parameter_tier = tier;
      input.optimizer_tier = tier;
      const Plan whole = make_plan(input);
      const std::uint64_t vectors = 4 * input.units.size();
      for (const int ranks : {2, 3, 4, 8, 9}) {
        input.world_size = ranks;
        const Plan plan = make_plan(input);
        for (const char* const what : {"weights", "optimizer states", "gradients"}) {
          // Each vector of each of three states: up to the grid of 64 elements, and to a page.
          const std::uint64_t padding = vectors * 3 * (64 * 4 + 4096);
          const std::uint64_t all = bytes_of(plan, what) * static_cast<std::uint64_t>(ranks);
          EXPECT_GE(all + padding, bytes_of(whole, what)) << describe(plan, input);
          EXPECT_LE(all, bytes_of(whole, what) + padding * static_cast<std::uint64_t>(ranks))
              << what << "\n"
              << describe(plan, input);
        }
      }
    }
  }
}

TEST(Plan, AUnitInUseIsWholeOnEveryRank) {
  PlanInput input = gpt2_like();
  const Plan alone = make_plan(input);
  EXPECT_EQ(alone.exchange_bytes, 0u);
  EXPECT_EQ(alone.bucket_bytes, 0u);
  const std::uint64_t bucket_of_one = gradient_bucket_bytes(input);
  for (const int ranks : {2, 3, 4, 8}) {
    input.world_size = ranks;
    const Plan plan = make_plan(input);
    const std::uint64_t padding = input.units.size() * 4096;
    EXPECT_GE(plan.device_cache_bytes, alone.device_cache_bytes);
    EXPECT_LE(plan.device_cache_bytes,
              alone.device_cache_bytes + padding * static_cast<std::uint64_t>(ranks));
    EXPECT_EQ(plan.bucket_bytes, bucket_of_one * static_cast<std::uint64_t>(ranks));
    EXPECT_EQ(plan.exchange_bytes, plan.bucket_bytes);
    EXPECT_THAT(describe(plan, input), HasSubstr("each of " + std::to_string(ranks) + " ranks"));
  }
}

TEST(Plan, RanksOnAnAcceleratorExchangeThroughHostMemory) {
  PlanInput input = gpt2_like();
  input.world_size = 4;
  const Plan on_host = make_plan(input);
  input.device_memory_is_host = false;
  const Plan plan = make_plan(input);
  EXPECT_EQ(plan.exchange_bytes, 2 * 4 * plan.slot_bytes);
  EXPECT_EQ(bytes_of(plan, "exchange between ranks"), plan.exchange_bytes);
  EXPECT_EQ(bytes_of(plan, "gradients from all ranks"), 0u);
  EXPECT_EQ(plan.total.host, on_host.total.host + plan.exchange_bytes);
  EXPECT_EQ(plan.total.device, on_host.total.device - on_host.exchange_bytes);
  input.world_size = 1;
  EXPECT_EQ(make_plan(input).exchange_bytes, 0u);
}

TEST(Plan, TheSmallestBudgetsOfARankWorkAndAByteLessDoesNot) {
  for (const bool device_memory_is_host : {true, false}) {
    for (const int ranks : {1, 2, 3, 4, 9}) {
      PlanInput input = gpt2_like();
      input.world_size = ranks;
      input.device_memory_is_host = device_memory_is_host;
      input.budgets = smallest_budgets(input);
      const Plan plan = make_plan(input);
      for (const Tier tier : {Tier::kDevice, Tier::kHost, Tier::kNvme}) {
        EXPECT_LE(plan.total.of(tier), input.budgets.of(tier));
        PlanInput less = input;
        --less.budgets.of(tier);
        EXPECT_THROW((void)make_plan(less), BudgetError) << name_of(tier) << ", " << ranks;
      }
    }
  }
}

TEST(Plan, RefusesAWorldWithoutRanks) {
  PlanInput input = gpt2_like();
  input.world_size = 0;
  EXPECT_THROW((void)make_plan(input), ConfigError);
  EXPECT_THROW((void)smallest_budgets(input), ConfigError);
}

}  // namespace
}  // namespace strata::zero3
