#include "recompute_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "strata/base/units.h"

namespace strata::tool::recompute_choice_test {
namespace {

using testing::HasSubstr;

formats::DsConfig in_host_memory() {
  formats::DsConfig config;
  config.bf16.enabled = true;
  config.gradient_accumulation_steps = 4;
  config.zero.offload_param.device = formats::OffloadDevice::kCpu;
  config.zero.offload_optimizer.device = formats::OffloadDevice::kCpu;
  config.strata.recompute.reset();
  return config;
}

RecomputeChoice choice_with(std::uint64_t available) {
  return choose_recompute(in_host_memory(), models::Gpt2Config{}, {.sequences = 4, .length = 512},
                          {.available = available, .reserve = available / 10, .source = "a test"});
}

TEST(RecomputeChoice, KeepsActivationsWhereMemoryAllows) {
  const RecomputeChoice ample = choice_with(64_GiB);
  EXPECT_FALSE(ample.recomputes);
  EXPECT_THAT(ample.why, HasSubstr("kept"));
}

TEST(RecomputeChoice, RecomputesWhereItDoesNotAndSaysWhatIsThere) {
  const RecomputeChoice scarce = choice_with(5_GiB);
  EXPECT_TRUE(scarce.recomputes);
  EXPECT_THAT(scarce.why, HasSubstr("recomputed"));
  EXPECT_THAT(scarce.why, HasSubstr("GiB"));
}

TEST(RecomputeChoice, ChangesOnceWithTheMemory) {
  bool keeps = false;
  int changes = 0;
  for (std::uint64_t gib = 4; gib < 40; ++gib) {
    const bool now = !choice_with(gib * 1_GiB).recomputes;
    if (now != keeps) ++changes;
    keeps = now;
  }
  EXPECT_EQ(changes, 1);
}

}  // namespace
}  // namespace strata::tool::recompute_choice_test
