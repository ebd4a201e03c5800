#include "strata/zero3/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "zero3/plan_inputs.h"

namespace strata::zero3::plan_formats_test {
namespace {

using testing::HasSubstr;
using tiering::Tier;

TEST(Plan, WhatIsKeptInFp32TakesTheBytesOfThat) {
  for (const StateFormat& format : all_formats()) {
    if (format.precision == Precision::kFp32) continue;
    PlanInput input = gpt2_like();
    input.format = format;
    input.parameter_tier = Tier::kHost;
    input.optimizer_tier = Tier::kHost;
    const Plan before = make_plan(input);
    const std::uint64_t bucket_before = gradient_bucket_bytes(input);
    constexpr std::uint64_t kCount = 8192;
    input.units[3].add("norm", {kCount}, true, /*keep_fp32=*/true);
    input.units[5].add("frozen_norm", {kCount}, false, /*keep_fp32=*/true);
    const Plan plan = make_plan(input);
    const StateFormat fp32 = kept_in_fp32(format);
    EXPECT_EQ(plan.total.host - before.total.host,
              kCount * (2 * 4 + optimizer_bytes(fp32) + /*gradient*/ 4));
    EXPECT_EQ(plan.device_cache_bytes - before.device_cache_bytes, 2 * kCount * 4);
    EXPECT_EQ(gradient_bucket_bytes(input), 2 * bucket_before);  // pieces of fp32 gradients
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

TEST(Plan, CutsGradientsWhereTheirSumsAndTheChunksAllow) {
  PlanInput input = gpt2_like();
  input.device_memory_is_host = false;
  for (const std::uint64_t chunk : {4_KiB, 64_KiB, 1_MiB, 4_MiB}) {
    input.chunk_bytes = chunk;
    const Plan plan = make_plan(input);
    EXPECT_GT(plan.bucket_bytes, 0u) << chunk;
    EXPECT_EQ(plan.bucket_bytes % chunk, 0u) << chunk;
    EXPECT_EQ(plan.slot_bytes % (32768 * 4), 0u) << chunk;
    EXPECT_EQ(plan.window_elements * 2 % chunk, 0u) << chunk;
  }
}

TEST(Plan, RefusesAChunkThatIsNoPowerOfTwo) {
  PlanInput input = gpt2_like();
  for (const std::uint64_t chunk : {0ull, 2048ull, 12288ull}) {
    input.chunk_bytes = chunk;
    EXPECT_THROW((void)make_plan(input), ConfigError) << chunk;
  }
}

}  // namespace
}  // namespace strata::zero3::plan_formats_test
