#include "strata/zero3/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/formats/ds_config.h"
#include "strata/tiering/budget.h"
#include "support/message_of.h"
#include "zero3/plan_inputs.h"

namespace strata::zero3::plan_test {
namespace {

using testing::HasSubstr;
using tiering::Budget;
using tiering::Tier;

TEST(Plan, PutsHomesWhereTheInputSays) {
  PlanInput input = gpt2_like();
  const std::uint64_t parameters = 39'000'000 + 12ull * 7'000'000;
  EXPECT_GE(make_plan(input).total.nvme, parameters * 12);
  EXPECT_LT(make_plan(input).total.nvme, parameters * 12 + 1_MiB);

  input.optimizer_tier = Tier::kHost;
  EXPECT_LT(make_plan(input).total.nvme, parameters * 2 + 1_MiB);
  EXPECT_GE(make_plan(input).total.host, parameters * (10 + 2));

  input.parameter_tier = Tier::kDevice;
  const Plan plan = make_plan(input);
  EXPECT_EQ(plan.total.nvme, 0u);
  EXPECT_FALSE(plan.uses_nvme);
  EXPECT_EQ(plan.device_cache_bytes, 0u);
  EXPECT_EQ(plan.windows, 0u);
}

TEST(Plan, WhatRestsOnADeviceThatIsNotHostMemoryPassesThroughStaging) {
  PlanInput input = gpt2_like();
  input.parameter_tier = Tier::kDevice;
  input.optimizer_tier = Tier::kDevice;
  const Plan in_host_memory = make_plan(input);
  EXPECT_EQ(in_host_memory.windows, 0u);
  EXPECT_EQ(in_host_memory.fetch_slots, 0u);
  input.device_memory_is_host = false;
  const Plan elsewhere = make_plan(input);
  EXPECT_GT(elsewhere.windows, 0u);
  EXPECT_EQ(elsewhere.fetch_slots, 2u);
  EXPECT_EQ(elsewhere.total.device - elsewhere.bucket_bytes,
            in_host_memory.total.device - in_host_memory.bucket_bytes);
  input.parameter_tier = input.optimizer_tier = Tier::kHost;
  EXPECT_EQ(make_plan(input).windows, 0u);
}

TEST(Plan, OnAnAcceleratorAUnitsGradientHasRoomWhereTwoUnitsHaveItBesideIt) {
  PlanInput input = gpt2_like();
  input.device_memory_is_host = false;
  const Plan ample = make_plan(input);
  std::uint64_t largest = 0;
  for (const UnitLayout& unit : input.units) largest = std::max(largest, unit.trainable_count);
  EXPECT_GE(ample.bucket_bytes, largest * 2);
  EXPECT_LT(ample.bucket_bytes, largest * 2 + ample.slot_bytes / 2);

  input.budgets.device = smallest_budgets(input).device;
  const Plan least = make_plan(input);
  EXPECT_EQ(least.bucket_bytes, least.slot_bytes / 2);
  const std::uint64_t region = least.device_cache_bytes;

  input.budgets.device += region + 3 * least.bucket_bytes;
  const Plan some = make_plan(input);
  EXPECT_EQ(some.bucket_bytes, 4 * least.bucket_bytes);
  EXPECT_EQ(some.total.device, input.budgets.device);
  EXPECT_GE(some.device_cache_bytes, 2 * region);

  input.device_memory_is_host = true;
  EXPECT_LE(make_plan(input).bucket_bytes, least.bucket_bytes);
  input.device_memory_is_host = false;
  input.world_size = 2;
  EXPECT_EQ(make_plan(input).bucket_bytes, 2 * least.bucket_bytes);
}

TEST(Plan, ItemsAddUpToTheTotals) {
  const Plan plan = make_plan(gpt2_like());
  TierBytes sum;
  for (const PlanItem& item : plan.items) sum.of(item.tier) += item.bytes;
  EXPECT_EQ(sum.device, plan.total.device);
  EXPECT_EQ(sum.host, plan.total.host);
  EXPECT_EQ(sum.nvme, plan.total.nvme);
}

TEST(Plan, NeverExceedsABudgetAndNamesTheSmallestThatWorks) {
  const std::vector<StateFormat> formats = all_formats();
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    PlanInput input;
    const int units = 1 + static_cast<int>(random() % 6);
    for (int i = 0; i < units; ++i) {
      input.units.push_back(unit_of(1 + random() % 3'000'000, random() % 2 * (random() % 500'000)));
    }
    input.format = formats[random() % formats.size()];
    input.parameter_tier = tiering::kTiers[random() % 3];
    input.optimizer_tier = tiering::kTiers[random() % 3];
    input.accumulate_fp32 = random() % 2 == 0;
    input.nvme_available = input.parameter_tier == Tier::kNvme ||
                           input.optimizer_tier == Tier::kNvme || random() % 2 == 0;
    input.chunk_bytes = 4096ull << (random() % 9);
    const TierBytes smallest = smallest_budgets(input);
    input.budgets = smallest;
    const Plan least = make_plan(input);
    for (const Tier tier : tiering::kTiers) EXPECT_LE(least.total.of(tier), smallest.of(tier));

    input.budgets.host += random() % 50'000'000;
    input.budgets.device += random() % 10'000'000;
    input.budgets.nvme = Budget::kUnlimited;
    const Plan plan = make_plan(input);
    for (const Tier tier : tiering::kTiers) EXPECT_LE(plan.total.of(tier), input.budgets.of(tier));

    for (const Tier tier : {Tier::kDevice, Tier::kHost}) {
      if (smallest.of(tier) == 0) continue;
      input.budgets = kUnlimited;
      input.budgets.of(tier) = smallest.of(tier) - 1;
      try {
        std::ignore = make_plan(input);
        ADD_FAILURE() << "a budget below the smallest was accepted";
      } catch (const BudgetError& error) {
        const std::string message = error.what();
        EXPECT_THAT(message, HasSubstr(std::to_string(smallest.of(tier))));
        EXPECT_THAT(message, HasSubstr(std::string(name_of(tier))));
        // The rounded figure is what a person types in.
        const std::string named = message.substr(message.find("works is ") + 9);
        input.budgets.of(tier) = parse_bytes(named.substr(0, named.find(" (")));
        EXPECT_NO_THROW(std::ignore = make_plan(input)) << message;
      }
    }
  }
}

TEST(Plan, SpillsGradientsToNvmeOnlyWhenHostMemoryHasNoRoom) {
  PlanInput input = gpt2_like();
  EXPECT_FALSE(make_plan(input).gradients_on_nvme);
  input.budgets.host = 512_MiB;
  EXPECT_FALSE(make_plan(input).gradients_on_nvme);
  input.budgets.host = 200_MiB;
  const Plan plan = make_plan(input);
  EXPECT_TRUE(plan.gradients_on_nvme);
  EXPECT_EQ(plan.gradient_tier.front(), Tier::kHost);
  EXPECT_EQ(plan.gradient_tier.back(), Tier::kNvme);
}

TEST(Plan, AUnitsGradientHasSlotsOnItsWayToNvmeWhereTheyTakeLittle) {
  PlanInput input;
  input.units.assign(20, unit_of(50'000'000));
  input.format = Precision::kBf16;
  input.budgets = {Budget::kUnlimited, 1_GiB, Budget::kUnlimited};
  Plan plan = make_plan(input);
  ASSERT_TRUE(plan.gradients_on_nvme);
  EXPECT_EQ(plan.gradient_slots, ceil_div(50'000'000 * 2, plan.slot_bytes));
  EXPECT_LE(plan.total.host, 1_GiB);

  input.accumulate_fp32 = true;  // twice as large, and more of them have no room
  plan = make_plan(input);
  EXPECT_NEAR(static_cast<double>(plan.gradient_slots * plan.slot_bytes), 1_GiB / 8, 16_MiB);
  input.budgets.host = smallest_budgets(input).host;
  EXPECT_EQ(make_plan(input).gradient_slots, 4u);

  input.accumulate_fp32 = false;
  input.budgets.host = 1'950_MiB;  // little has no room
  plan = make_plan(input);
  ASSERT_TRUE(plan.gradients_on_nvme);
  EXPECT_EQ(plan.gradient_slots, 4u);
}

TEST(Plan, KeepsDiskAndArithmeticOverlappedBeforeItKeepsGradients) {
  PlanInput input = gpt2_like();
  input.budgets.host = 200_MiB;
  const Plan plan = make_plan(input);
  EXPECT_GE(plan.windows, 3u);
  EXPECT_GE(plan.fetch_slots, 8u);
}

TEST(Plan, SmallUnitsStayOnTheDeviceAsFarAsTheModelsThresholdAndTheBudgetGo) {
  PlanInput input;
  for (const std::int64_t elements : {8192, 100, 200, 300, 4096}) {
    input.units.push_back(unit_of(elements));
  }
  input.format = Precision::kBf16;
  input.budgets = kUnlimited;
  using Persistent = std::vector<bool>;
  EXPECT_EQ(make_plan(input).persistent, Persistent(5));
  const auto count_of = [&](std::size_t unit) { return input.units[unit].trainable_count; };
  input.persistence_threshold = count_of(3);
  EXPECT_EQ(make_plan(input).persistent, (Persistent{false, true, true, false, false}));
  input.persistence_threshold = count_of(3) + 1;
  EXPECT_EQ(make_plan(input).persistent, (Persistent{false, true, true, true, false}));
  input.persistence_model_max = count_of(1) + count_of(2);
  EXPECT_EQ(make_plan(input).persistent, (Persistent{false, true, true, false, false}));
  input.budgets.device = smallest_budgets(input).device;
  EXPECT_EQ(make_plan(input).persistent, Persistent(5));
  input.budgets.device += 4_KiB;  // a page: one of them
  EXPECT_EQ(make_plan(input).persistent, (Persistent{false, true, false, false, false}));

  formats::DsConfig config;
  EXPECT_EQ(plan_input_from(config).persistence_threshold, 0u);
  EXPECT_EQ(plan_input_from(config).persistence_model_max, UINT64_MAX);
  EXPECT_EQ(plan_input_from(config).reuse_distance_max, UINT64_MAX);
  config.zero.persistence_threshold = 1;
  config.zero.persistence_model_max = 2;
  config.zero.reuse_distance_max = 3;
  EXPECT_EQ(plan_input_from(config).persistence_threshold, 1u);
  EXPECT_EQ(plan_input_from(config).persistence_model_max, 2u);
  EXPECT_EQ(plan_input_from(config).reuse_distance_max, 3u);
}

TEST(Plan, DeepSpeedsBuffersBoundTheStaging) {
  PlanInput input = gpt2_like();
  const Plan ample = make_plan(input);
  input.fetch_staging_max = 5 * ample.slot_bytes + 1;
  input.windows_elements_max = 2 * ample.window_elements;
  const Plan bounded = make_plan(input);
  EXPECT_EQ(bounded.fetch_slots, 5u);
  EXPECT_EQ(bounded.windows, 2u);
  EXPECT_EQ(bounded.window_elements, ample.window_elements);
  input.fetch_staging_max = input.windows_elements_max = 0;
  EXPECT_EQ(make_plan(input).fetch_slots, 2u);
  EXPECT_EQ(make_plan(input).windows, 1u);

  formats::DsConfig config;
  config.bf16.enabled = true;
  EXPECT_EQ(plan_input_from(config).fetch_staging_max, UINT64_MAX);
  EXPECT_EQ(plan_input_from(config).windows_elements_max, UINT64_MAX);
  config.zero.offload_param.buffer_count = 3;
  config.zero.offload_optimizer.buffer_count = 9;
  EXPECT_EQ(plan_input_from(config).fetch_staging_max, 600'000'000u);
  EXPECT_EQ(plan_input_from(config).windows_elements_max, 2'000'000'000u);
  config.zero.offload_param.buffer_size = 7;
  EXPECT_EQ(plan_input_from(config).fetch_staging_max, 42u);
}

TEST(Plan, CountsTheRoomForActivationsToTheByte) {
  PlanInput with = gpt2_like();
  with.activations = tiering::activation_room(300_MiB, 2_GiB, with.chunk_bytes);
  const TierBytes without = make_plan(gpt2_like()).total, total = make_plan(with).total;
  EXPECT_EQ(total.host, without.host + 300_MiB);
  EXPECT_EQ(total.nvme, without.nvme + 2_GiB);
  EXPECT_EQ(total.device, without.device);
  const TierBytes smallest = smallest_budgets(with);
  EXPECT_EQ(smallest.host, smallest_budgets(gpt2_like()).host + 300_MiB);
  with.budgets.host = smallest.host;
  EXPECT_EQ(make_plan(with).total.host, smallest.host);
  with.budgets.host = smallest.host - 1;
  EXPECT_THROW((void)make_plan(with), BudgetError);
}

TEST(Plan, TakesTheRoomForActivationsFromTheConfig) {
  formats::DsConfig config;
  config.strata.activations_host_bytes = 100_MiB;
  EXPECT_EQ(plan_input_from(config).activations.host_bytes(), 100_MiB);
  config.strata.activations_nvme_bytes = 1_GiB;
  EXPECT_THAT(support::message_of<ConfigError>([&] { (void)plan_input_from(config); }),
              HasSubstr("no directory is named"));
  config.strata.nvme_directories = {"."};
  EXPECT_EQ(plan_input_from(config).activations.nvme_bytes(), 1_GiB);
}

TEST(Plan, FrozenParametersHaveWeightsOnly) {
  PlanInput input;
  input.units.push_back(unit_of(0, 1 << 20));
  input.format = Precision::kBf16;
  input.budgets = kUnlimited;
  const Plan plan = make_plan(input);
  EXPECT_EQ(plan.total.nvme, 2u << 20);
  EXPECT_EQ(plan.gradient_slots, 0u);
  EXPECT_EQ(plan.windows, 0u);
}

TEST(Plan, SeveralDirectoriesNeedRoomForChunksThatMove) {
  PlanInput input;
  input.units.push_back(unit_of(0, 1 << 20));
  input.format = Precision::kBf16;
  input.chunk_bytes = 64_KiB;
  input.budgets = kUnlimited;
  const Plan alone = make_plan(input);
  input.nvme_directories = 2;
  const Plan striped = make_plan(input);
  EXPECT_EQ(alone.total.nvme, 2_MiB);
  EXPECT_EQ(striped.total.nvme, 2_MiB + 8 * 64_KiB) << "one place for each four chunks";
  EXPECT_EQ(striped.total.host, alone.total.host);
  EXPECT_EQ(striped.total.device, alone.total.device);
}

TEST(Plan, GradientsOnSeveralDirectoriesNeedRoomToMoveToo) {
  PlanInput input = gpt2_like();
  input.chunk_bytes = 64_KiB;
  input.budgets.host = 200_MiB;
  const Plan alone = make_plan(input);
  input.nvme_directories = 3;
  const Plan striped = make_plan(input);
  EXPECT_EQ(striped.gradient_tier, alone.gradient_tier) << "host memory holds what it held";
  EXPECT_GT(striped.total.nvme, alone.total.nvme + alone.total.nvme / 5);
  EXPECT_LE(striped.total.nvme, alone.total.nvme + alone.total.nvme / 4);
}

TEST(Plan, DescriptionNamesEveryTierAndItsBudget) {
  PlanInput input = gpt2_like();
  input.budgets.host = 512_MiB;
  const std::string text = describe(make_plan(input), input);
  EXPECT_THAT(text, HasSubstr("of a budget of 512 MiB"));
  EXPECT_THAT(text, HasSubstr("an unlimited budget"));
  EXPECT_THAT(text, HasSubstr("optimizer windows"));
  EXPECT_THAT(text, HasSubstr("at rest: 12 bytes (weight 2, master 2, m 4, v 4)"));
  input.format.master = MasterFormat::k24Bit;
  input.format.moments = MomentFormat::kInt8;
  input.format.has_v = false;
  EXPECT_THAT(describe(make_plan(input), input),
              HasSubstr("at rest: 4 bytes (weight 2, master 1, m 1)"));
}

}  // namespace
}  // namespace strata::zero3::plan_test
