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

namespace strata::zero3 {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using tiering::Budget;
using tiering::Tier;

UnitLayout unit_of(std::int64_t trainable, std::int64_t frozen = 0) {
  UnitLayout unit;
  unit.add("weight", {trainable}, true);
  if (frozen > 0) unit.add("frozen", {frozen}, false);
  return unit;
}

/// A model of 12 blocks of 7 M parameters and an outer unit of 39 M, in bf16.
PlanInput gpt2_like() {
  PlanInput input;
  input.units.push_back(unit_of(39'000'000));
  for (int i = 0; i < 12; ++i) input.units.push_back(unit_of(7'000'000));
  input.format = Precision::kBf16;
  input.budgets = {Budget::kUnlimited, Budget::kUnlimited, Budget::kUnlimited};
  return input;
}

/// Every combination of formats and of moments that an optimizer keeps.
std::vector<StateFormat> all_formats() {
  std::vector<StateFormat> formats;
  for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16}) {
    for (const MasterFormat master : {MasterFormat::kFp32, MasterFormat::k24Bit}) {
      if (master == MasterFormat::k24Bit && precision != Precision::kBf16) continue;
      for (const MomentFormat moments :
           {MomentFormat::kFp32, MomentFormat::kBf16, MomentFormat::kInt8}) {
        for (const int kept : {0, 1, 2, 3}) {
          StateFormat format = precision;
          format.master = master;
          format.moments = moments;
          format.has_m = (kept & 1) != 0;
          format.has_v = (kept & 2) != 0;
          formats.push_back(format);
        }
      }
    }
  }
  return formats;
}

std::uint64_t optimizer_bytes(const StateFormat& format) {
  return state_bytes(format, StateKind::kMaster) + state_bytes(format, StateKind::kM) +
         state_bytes(format, StateKind::kV);
}

TEST(Plan, WhatIsKeptInFp32TakesTheBytesOfThat) {
  for (const StateFormat& format : all_formats()) {
    if (format.precision == Precision::kFp32) continue;
    PlanInput input = gpt2_like();
    input.format = format;
    input.parameter_tier = Tier::kHost;
    input.optimizer_tier = Tier::kHost;
    const Plan before = make_plan(input);
    constexpr std::uint64_t kCount = 8192;
    input.units[3].add("norm", {kCount}, true, /*keep_fp32=*/true);
    input.units[5].add("frozen_norm", {kCount}, false, /*keep_fp32=*/true);
    const Plan plan = make_plan(input);
    const StateFormat fp32 = kept_in_fp32(format);
    EXPECT_EQ(plan.total.host - before.total.host,
              kCount * (2 * 4 + optimizer_bytes(fp32) + /*gradient*/ 4));
    EXPECT_EQ(plan.device_cache_bytes - before.device_cache_bytes, 2 * kCount * 4);
    EXPECT_EQ(plan.bucket_bytes, 2 * before.bucket_bytes);  // pieces of fp32 gradients
    EXPECT_EQ(plan.formats, (std::vector{format, fp32}));
    EXPECT_THAT(describe(plan, input), HasSubstr("one that is kept in fp32: "));

    input.parameter_tier = Tier::kNvme;
    input.optimizer_tier = Tier::kNvme;
    const std::uint64_t grid = make_plan(input).window_elements;
    for (const StateFormat& each : plan.formats) {
      EXPECT_EQ(grid % (input.chunk_bytes / smallest_state_bytes(each)), 0u);
    }
  }
}

TEST(Plan, EveryFormatTakesTheBytesOfItsStates) {
  for (const StateFormat& format : all_formats()) {
    PlanInput input = gpt2_like();
    input.format = format;
    const std::uint64_t parameters = 39'000'000 + 12ull * 7'000'000;
    const std::uint64_t states = parameters * optimizer_bytes(format);
    const std::uint64_t weights = parameters * weight_bytes(format.precision);
    const Plan on_nvme = make_plan(input);
    EXPECT_GE(on_nvme.total.nvme, weights + states) << describe(on_nvme, input);
    EXPECT_LT(on_nvme.total.nvme, weights + states + 1_MiB) << describe(on_nvme, input);
    input.parameter_tier = Tier::kDevice;
    input.optimizer_tier = Tier::kHost;
    const Plan in_memory = make_plan(input);
    EXPECT_EQ(in_memory.total.nvme, 0u);
    EXPECT_EQ(in_memory.windows, 0u);
    EXPECT_GE(in_memory.total.host, states + parameters * weight_bytes(format.precision));
    EXPECT_LT(in_memory.total.host, states + parameters * weight_bytes(format.precision) + 5_MiB);
  }
}

TEST(Plan, WindowsOfEveryFormatAreWholeChunksOfEveryState) {
  for (const StateFormat& format : all_formats()) {
    for (const std::uint64_t chunk : {4_KiB, 64_KiB, 1_MiB}) {
      PlanInput input = gpt2_like();
      input.format = format;
      input.chunk_bytes = chunk;
      const Plan plan = make_plan(input);
      ASSERT_GT(plan.window_elements, 0u);
      for (int kind = 0; kind < kStateKindCount; ++kind) {
        const std::uint64_t bytes = state_bytes(format, static_cast<StateKind>(kind));
        EXPECT_EQ(plan.window_elements * bytes % chunk, 0u)
            << name_of(static_cast<StateKind>(kind)) << "\n"
            << describe(plan, input);
      }
    }
  }
}

TEST(Plan, AnOptimizerWithoutStatesNeedsNoWindowsForThem) {
  PlanInput input = gpt2_like();  // optimizer states on nvme
  input.parameter_tier = Tier::kHost;
  input.format = Precision::kFp32;
  input.format.has_m = input.format.has_v = false;  // SGD
  const Plan plan = make_plan(input);
  EXPECT_EQ(plan.windows, 0u);
  EXPECT_EQ(plan.total.nvme, 0u);
}

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

/// The bytes of the items of that name, in any tier.
std::uint64_t bytes_of(const Plan& plan, const std::string& what) {
  std::uint64_t bytes = 0;
  for (const PlanItem& item : plan.items) {
    if (item.what == what) bytes += item.bytes;
  }
  return bytes;
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
  EXPECT_EQ(elsewhere.total.device, in_host_memory.total.device);
  input.parameter_tier = input.optimizer_tier = Tier::kHost;
  EXPECT_EQ(make_plan(input).windows, 0u);
}

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
  for (const int ranks : {2, 3, 4, 8}) {
    input.world_size = ranks;
    const Plan plan = make_plan(input);
    const std::uint64_t padding = input.units.size() * 4096;
    EXPECT_GE(plan.device_cache_bytes, alone.device_cache_bytes);
    EXPECT_LE(plan.device_cache_bytes,
              alone.device_cache_bytes + padding * static_cast<std::uint64_t>(ranks));
    EXPECT_EQ(plan.bucket_bytes, alone.bucket_bytes * static_cast<std::uint64_t>(ranks));
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
    constexpr Tier kTiers[] = {Tier::kDevice, Tier::kHost, Tier::kNvme};
    input.format = formats[random() % formats.size()];
    input.parameter_tier = kTiers[random() % 3];
    input.optimizer_tier = kTiers[random() % 3];
    input.accumulate_fp32 = random() % 2 == 0;
    input.nvme_available = input.parameter_tier == Tier::kNvme ||
                           input.optimizer_tier == Tier::kNvme || random() % 2 == 0;
    input.chunk_bytes = 4096ull << (random() % 9);
    const TierBytes smallest = smallest_budgets(input);
    input.budgets = smallest;
    const Plan least = make_plan(input);
    for (const Tier tier : kTiers) EXPECT_LE(least.total.of(tier), smallest.of(tier));

    input.budgets.host += random() % 50'000'000;
    input.budgets.device += random() % 10'000'000;
    input.budgets.nvme = Budget::kUnlimited;
    const Plan plan = make_plan(input);
    for (const Tier tier : kTiers) EXPECT_LE(plan.total.of(tier), input.budgets.of(tier));

    for (const Tier tier : {Tier::kDevice, Tier::kHost}) {
      if (smallest.of(tier) == 0) continue;
      input.budgets = {Budget::kUnlimited, Budget::kUnlimited, Budget::kUnlimited};
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

TEST(Plan, KeepsDiskAndArithmeticOverlappedBeforeItKeepsGradients) {
  PlanInput input = gpt2_like();
  input.budgets.host = 200_MiB;
  const Plan plan = make_plan(input);
  EXPECT_GE(plan.windows, 3u);
  EXPECT_GE(plan.fetch_slots, 8u);
}

// ---- what a named host budget leaves free -------------------------------------------------------

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
  input.budgets = {Budget::kUnlimited, Budget::kUnlimited, Budget::kUnlimited};
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

TEST(Plan, SmallUnitsStayOnTheDeviceAsFarAsTheModelsThresholdAndTheBudgetGo) {
  PlanInput input;
  for (const std::int64_t elements : {8192, 100, 200, 300, 4096}) {
    input.units.push_back(unit_of(elements));
  }
  input.format = Precision::kBf16;
  input.budgets = {Budget::kUnlimited, Budget::kUnlimited, Budget::kUnlimited};
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

TEST(Plan, CutsGradientsWhereTheirSumsAndTheChunksAllow) {
  PlanInput input = gpt2_like();
  for (const std::uint64_t chunk : {4_KiB, 64_KiB, 1_MiB, 4_MiB}) {
    input.chunk_bytes = chunk;
    const Plan plan = make_plan(input);
    EXPECT_EQ(plan.bucket_bytes % chunk, 0u) << chunk;
    EXPECT_EQ(plan.slot_bytes % (32768 * 4), 0u) << chunk;
    EXPECT_EQ(plan.window_elements * 2 % chunk, 0u) << chunk;
  }
}

TEST(Plan, RefusesAChunkThatIsNoPowerOfTwo) {
  PlanInput input = gpt2_like();
  for (const std::uint64_t chunk : {0ull, 2048ull, 12288ull}) {
    input.chunk_bytes = chunk;
    EXPECT_THROW(make_plan(input), ConfigError) << chunk;
  }
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
  input.budgets = {Budget::kUnlimited, Budget::kUnlimited, Budget::kUnlimited};
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
  input.budgets = {Budget::kUnlimited, Budget::kUnlimited, Budget::kUnlimited};
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

// ---- host memory without a budget --------------------------------------------------------------

/// A machine that can give so many bytes.
HostMemoryBound bound_of(std::uint64_t bytes) {
  return {.available = bytes + 1_GiB, .reserve = 1_GiB, .source = "this machine"};
}

std::uint64_t in_host_memory(const Plan& plan) { return plan.total.device + plan.total.host; }

TEST(PlanWithoutAHostBudget, IsTheUnboundedOneWhereTheMachineHasRoomForIt) {
  for (const Tier tier : {Tier::kHost, Tier::kNvme}) {
    PlanInput input = gpt2_like();
    input.parameter_tier = input.optimizer_tier = tier;
    const Plan unbounded = make_plan(input);
    input.host_memory = bound_of(in_host_memory(unbounded));
    const Plan plan = make_plan(input);
    EXPECT_EQ(plan.total.device, unbounded.total.device);
    EXPECT_EQ(plan.total.host, unbounded.total.host);
    EXPECT_EQ(plan.gradient_tier, unbounded.gradient_tier);
    EXPECT_EQ(plan.windows, unbounded.windows);
  }
}

TEST(PlanWithoutAHostBudget, FitsBothTiersIntoWhatTheMachineCanGive) {
  PlanInput input = gpt2_like();
  const TierBytes least = smallest_budgets(input);
  const std::uint64_t most = in_host_memory(make_plan(input));
  std::uint64_t before = 0;
  for (std::uint64_t bytes = least.device + least.host; bytes < most; bytes += 16_MiB) {
    input.host_memory = bound_of(bytes);
    const Plan plan = make_plan(input);
    EXPECT_LE(in_host_memory(plan), bytes);
    EXPECT_GE(plan.total.device, least.device);
    EXPECT_GE(plan.total.host, before);  // the host tier's use comes before kept units
    before = plan.total.host;
  }
}

TEST(PlanWithoutAHostBudget, KeepsTheDevicesOwnMemoryOutOfIt) {
  PlanInput input = gpt2_like();
  input.device_memory_is_host = false;
  const Plan unbounded = make_plan(input);
  input.host_memory = bound_of(unbounded.total.host);
  EXPECT_EQ(make_plan(input).total.device, unbounded.total.device);
  EXPECT_EQ(make_plan(input).total.host, unbounded.total.host);
}

TEST(PlanWithoutAHostBudget, ThatTheMachineCannotHoldIsRefusedWithTheSmallestAndWhatItHas) {
  PlanInput input = gpt2_like();
  const TierBytes least = smallest_budgets(input);
  input.host_memory = bound_of(least.device + least.host - 1);
  EXPECT_THAT(support::message_of<BudgetError>([&] { (void)make_plan(input); }),
              AllOf(HasSubstr("no host budget is named"), HasSubstr(describe(*input.host_memory)),
                    HasSubstr("the smallest host budget that works"),
                    HasSubstr("(" + std::to_string(least.host) + " bytes)"),
                    HasSubstr("for the device tier"), HasSubstr("--budget")));
  EXPECT_THROW(require_host_memory(input), BudgetError);
  EXPECT_EQ(smallest_budgets(input).host, least.host);  // of any machine
  input.host_memory = bound_of(least.device + least.host);
  EXPECT_NO_THROW((void)make_plan(input));
  EXPECT_NO_THROW(require_host_memory(input));
}

TEST(PlanWithoutAHostBudget, SaysWhatBoundsIt) {
  PlanInput input = gpt2_like();
  input.host_memory = bound_of(64_GiB);
  EXPECT_THAT(describe(make_plan(input), input),
              AllOf(HasSubstr("no budget; host memory is bounded by 64.0 GiB"),
                    HasSubstr("an unlimited budget")));  // that of nvme
  input.budgets.device = 1_GiB;
  EXPECT_THAT(describe(make_plan(input), input), HasSubstr("a budget of 1.00 GiB"));
}

TEST(PlanWithoutAHostBudget, IsBoundedByNoMachineThatIsNotNamed) {
  const auto input_of = [](const char* strata, const PlanPlace& place) {
    return plan_input_from(
        formats::DsConfig::from_text(
            std::string(R"({"train_batch_size": 1, "strata": {)") + strata + "}}",
            "ds_config.json"),
        {}, place);
  };
  const PlanPlace here{.host_memory = bound_of(4_GiB)};
  EXPECT_FALSE(input_of("", {}).host_memory);
  EXPECT_EQ(input_of("", here).host_memory->bytes(), 4_GiB);
  EXPECT_EQ(input_of(R"("budget": {"device": "1GiB"})", here).host_memory->bytes(), 4_GiB);
  EXPECT_FALSE(input_of(R"("budget": {"host": "9GiB"})", here).host_memory);
}

}  // namespace
}  // namespace strata::zero3
