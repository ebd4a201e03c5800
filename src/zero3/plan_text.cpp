#include <array>
#include <sstream>
#include <string>
#include <utility>

#include "strata/base/units.h"
#include "strata/tiering/budget.h"
#include "strata/zero3/plan.h"

namespace strata::zero3 {

using tiering::Budget;
using tiering::Tier;

namespace {

/// Text such as "5 bytes (weight 2, master 1, m 1, v 1)".
std::string parameter_at_rest(const StateFormat& format) {
  std::uint64_t total = 0;
  std::string parts;
  for (const StateKind kind :
       {StateKind::kWeight, StateKind::kMaster, StateKind::kM, StateKind::kV}) {
    const std::uint64_t bytes = state_bytes(format, kind);
    if (bytes == 0) continue;
    total += bytes;
    parts.append(parts.empty() ? "" : ", ").append(name_of(kind)).append(" ");
    parts.append(std::to_string(bytes));
  }
  return std::to_string(total) + " bytes (" + parts + ")";
}
/// What a rank has, in words.
std::string share_of(const PlanInput& input) {
  if (input.states_are_whole()) return "with all states (stage 0)";
  if (!input.weights_stay()) return "with a shard of every state";
  return "with a shard of every state, and all weights on its device (stage " +
         std::to_string(input.stage) + ")";
}

}  // namespace

std::string describe(const Plan& plan, const PlanInput& input) {
  std::ostringstream out;
  if (input.world_size > 1) {
    out << "  each of " << input.world_size << " ranks, " << share_of(input) << ":\n";
  }
  const char* of = "a trainable parameter at rest: ";
  for (const StateFormat& format : plan.formats) {
    out << "  " << std::exchange(of, "one that is kept in fp32: ") << parameter_at_rest(format)
        << "\n";
  }
  for (const PlanItem& item : plan.items) {
    out << "  " << name_of(item.tier) << std::string(8 - name_of(item.tier).size(), ' ')
        << format_bytes(item.bytes) << "  " << item.what << "\n";
  }
  const auto is_bounded = [&](Tier tier) {
    return input.host_memory &&
           (tier == Tier::kHost || (tier == Tier::kDevice && input.device_memory_is_host));
  };
  for (const Tier tier : tiering::kTiers) {
    const std::uint64_t budget = input.budgets.of(tier);
    out << "  " << name_of(tier) << std::string(8 - name_of(tier).size(), ' ')
        << format_bytes(plan.total.of(tier)) << "  in all, of "
        << (budget != Budget::kUnlimited ? "a budget of " + format_bytes(budget)
            : is_bounded(tier)
                ? "no budget; host memory is bounded by " + format_bytes(input.host_memory->bytes())
                : "an unlimited budget")
        << "\n";
  }
  return out.str();
}

}  // namespace strata::zero3
