#include "strata/zero3/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "strata/base/error.h"
#include "zero3/plan_inputs.h"

namespace strata::zero3::plan_ranks_test {
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

/// Bytes of a parameter on a rank, on the device and elsewhere, of what rests and of weights that
/// stay: with the optimizer's states in host memory.
struct BytesOfParameter {
  double device = 0, host = 0;
};

BytesOfParameter bytes_of_parameter(const PlanInput& input) {
  double parameters = 0;
  for (const UnitLayout& unit : input.units) {
    parameters += static_cast<double>(unit.trainable_count);
  }
  const Plan plan = make_plan(input);
  BytesOfParameter bytes;
  for (const PlanItem& item : plan.items) {
    const bool rests =
        item.what == "weights" || item.what == "optimizer states" || item.what == "gradients";
    const bool stays = item.what == "unsharded units" && input.stage < 3;
    if (!rests && !stays) continue;
    (item.tier == Tier::kDevice ? bytes.device : bytes.host) +=
        static_cast<double>(item.bytes) / parameters;
  }
  return bytes;
}

// The table of Rajbhandari et al. 2020, figure 1, with K = 12, counts 2 bytes of weights, 2 of
// gradients, and 12 of the fp32 master and two moments. Here the master's upper half is the weight
// itself where it rests, so that 2 of these 16 bytes are not there where weights are not kept
// twice; and gradients are added up where they are kept from stage 1 on.
TEST(Plan, AParameterTakesThePapersBytesOfEachStage) {
  for (const int ranks : {2, 4, 8, 64}) {
    const double n = ranks;
    const double of_paper[] = {16, 4 + 12 / n, 2 + 14 / n, 16 / n};
    for (const int stage : {0, 1, 2, 3}) {
      SCOPED_TRACE("stage " + std::to_string(stage) + " of " + std::to_string(ranks) + " ranks");
      PlanInput input = gpt2_like();
      input.world_size = ranks;
      input.stage = stage;
      input.optimizer_tier = Tier::kHost;
      input.parameter_tier = stage == 0 ? Tier::kDevice : Tier::kHost;
      const BytesOfParameter bytes = bytes_of_parameter(input);
      const double device = stage == 3 ? 0 : 2;
      const double host = stage == 0 ? 12 : 14 / n;
      EXPECT_NEAR(bytes.device, device, 0.01 * device);
      EXPECT_NEAR(bytes.host, host, 0.01 * host);
      EXPECT_LE(bytes.device + bytes.host, 1.01 * of_paper[stage]);
      if (stage == 2) {
        EXPECT_NEAR(bytes.device + bytes.host, of_paper[stage], 0.02);
      }
    }
  }
}

TEST(Plan, BelowStage3EveryRanksDeviceHasRoomForAllWeights) {
  for (const int stage : {1, 2}) {
    PlanInput input = gpt2_like();
    input.world_size = 4;
    input.stage = stage;
    input.parameter_tier = Tier::kHost;
    input.live_elements_max = 1'000'000;
    input.budgets = smallest_budgets(input);
    const Plan plan = make_plan(input);
    const std::uint64_t padding = input.units.size() * 4096;
    EXPECT_NEAR(static_cast<double>(plan.device_cache_bytes), 2 * 123e6,
                static_cast<double>(padding));
    EXPECT_THAT(plan.persistent, testing::Each(true));
    EXPECT_THAT(describe(plan, input),
                HasSubstr("all weights on its device (stage " + std::to_string(stage) + ")"));
    --input.budgets.device;
    try {
      (void)make_plan(input);
      ADD_FAILURE() << "it fits in less";
    } catch (const BudgetError& error) {
      EXPECT_THAT(error.what(), HasSubstr("stage 3 shares them too"));
    }
  }
}

TEST(Plan, OfOneRankIsTheSameInEveryStage) {
  PlanInput input = gpt2_like();
  input.parameter_tier = Tier::kDevice;
  const std::string of_three = describe(make_plan(input), input);
  for (const int stage : {0, 1, 2}) {
    input.stage = stage;
    EXPECT_EQ(describe(make_plan(input), input), of_three);
  }
}

TEST(Plan, GradientsThatEveryRankKeepsStayInHostMemory) {
  PlanInput input = gpt2_like();
  input.world_size = 2;
  input.parameter_tier = Tier::kDevice;
  for (const int stage : {0, 3}) {
    input.stage = stage;
    input.budgets = kUnlimited;
    input.budgets.host = smallest_budgets(input).host;
    EXPECT_EQ(make_plan(input).gradients_on_nvme, stage == 3);
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
}  // namespace strata::zero3::plan_ranks_test
