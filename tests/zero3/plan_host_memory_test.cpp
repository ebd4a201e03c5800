#include "strata/zero3/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/formats/ds_config.h"
#include "support/message_of.h"
#include "zero3/plan_inputs.h"

namespace strata::zero3::plan_host_memory_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using tiering::Tier;

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
}  // namespace strata::zero3::plan_host_memory_test
