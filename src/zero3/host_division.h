#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "zero3/plan_facts.h"

/// \file
/// How a plan divides host memory: homes, staging, windows, gradients.

namespace strata::zero3 {

/// The staging of one level, as a plan's fields.
struct Staging {
  std::size_t fetch_slots = 0, gradient_slots = 0, windows = 0;
  std::uint64_t window_elements = 0;
  std::uint64_t slots_total = 0, windows_total = 0, exchange_total = 0;  // bytes
  [[nodiscard]] std::uint64_t bytes() const { return slots_total + windows_total + exchange_total; }
};

/// Where units' gradients wait for the step.
struct Gradients {
  std::vector<tiering::Tier> tier;  // each unit's
  std::uint64_t host_bytes = 0, nvme_bytes = 0;
};

struct HostDivision {
  Staging staging;
  Gradients gradients;
};

/// The best staging level and gradient placement for a host budget; nullopt when nothing fits.
[[nodiscard]] std::optional<HostDivision> divide_host(const PlanFacts& facts,
                                                      const PlanInput& input, std::uint64_t budget);

/// The smallest host budget for which there is a division.
[[nodiscard]] std::uint64_t smallest_host(const PlanFacts& facts, const PlanInput& input);

/// Bytes of host memory that every plan with this unit takes beside the units' states, whatever
/// other units it has.
[[nodiscard]] std::uint64_t smallest_beside_states(const PlanInput& without_units,
                                                   const UnitLayout& unit);

}  // namespace strata::zero3
