#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "strata/base/number_format.h"
#include "strata/tiering/tier.h"
#include "strata/zero3/unit_layout.h"

/// \file
/// Where everything will live, worked out before anything is allocated. No LibTorch, no side
/// effects.

namespace strata::formats {
struct DsConfig;
}

namespace strata::zero3 {

/// Bytes that each tier may hold; Budget::kUnlimited where nothing is said.
struct TierBytes {
  std::uint64_t device = 0, host = 0, nvme = 0;
  [[nodiscard]] std::uint64_t of(tiering::Tier tier) const;
  [[nodiscard]] std::uint64_t& of(tiering::Tier tier);
};

/// What a plan is made from. Budgets and everything that is planned are those of one rank; all
/// ranks have the same.
struct PlanInput {
  std::vector<UnitLayout> units;  ///< in the order in which forward enters them
  /// Ranks that share the states: of every vector each one keeps a shard, an equal part of whole
  /// blocks of kMomentBlockElements. A unit in use is whole on every rank.
  int world_size = 1;
  StateFormat format;
  tiering::Tier parameter_tier = tiering::Tier::kNvme;  ///< home of the weights
  tiering::Tier optimizer_tier = tiering::Tier::kNvme;  ///< home of master remainder and moments
  bool accumulate_fp32 = false;                         ///< more than one micro-batch per step
  /// The device's memory is host memory: host code may touch it and the disk write to it. Where it
  /// is not, states that rest there pass through host memory to be updated or read.
  bool device_memory_is_host = true;
  TierBytes budgets;
  bool nvme_available = true;                       ///< a directory is named: gradients may spill
  std::size_t nvme_directories = 1;                 ///< that the shard store is striped over
  std::uint64_t chunk_bytes = 1u << 20;             ///< of the shard store
  std::uint64_t prefetch_elements = 50'000'000;     ///< of units, wished for ahead of use
  std::uint64_t live_elements_max = 1'000'000'000;  ///< kept unsharded on the device at most
  std::uint64_t window_elements_max = 0;            ///< cap of the optimizer's window; 0: none

  /// Whether what rests in `tier` has to be brought to host memory to be worked on there.
  [[nodiscard]] bool is_elsewhere(tiering::Tier tier) const noexcept;
  /// Whether units are used where they rest: on the device, whole.
  [[nodiscard]] bool units_stay() const noexcept;
};

/// Where a plan is for.
struct PlanPlace {
  int world_size = 1;
  bool device_memory_is_host = true;
};

/// What a config and units come to. Without units it is what an engine begins with; for planning
/// before anything is built. Throws ConfigError when something is to be offloaded to nvme and no
/// directory is named.
[[nodiscard]] PlanInput plan_input_from(const formats::DsConfig& config,
                                        std::vector<UnitLayout> units = {},
                                        const PlanPlace& place = {});

/// A line of the plan: what takes how many bytes of which tier.
struct PlanItem {
  std::string what;
  tiering::Tier tier;
  std::uint64_t bytes;
};

/// The decision. Peak bytes per tier at run time equal `total`.
struct Plan {
  TierBytes total;
  std::vector<PlanItem> items;
  std::vector<tiering::Tier> gradient_tier;  ///< of each unit: host, or nvme where host has no room
  std::vector<StateFormat> formats;  ///< of the trainable vectors: the run's, and fp32 beside it

  std::uint64_t slot_bytes = 0;          ///< of a pinned staging buffer
  std::size_t fetch_slots = 0;           ///< weights on their way to the device
  std::size_t gradient_slots = 0;        ///< gradients on their way to their home
  std::uint64_t device_cache_bytes = 0;  ///< unsharded units; at least the largest one
  /// Gradients packed at a time on the device (hop reduce): a piece for each rank, whose fp32 form
  /// fills a slot.
  std::uint64_t bucket_bytes = 0;
  std::uint64_t exchange_bytes = 0;  ///< the pieces that come from all ranks; 0 with one rank
  std::uint64_t window_elements = 0;
  std::size_t windows = 0;
  bool uses_nvme = false;
  bool gradients_on_nvme = false;  ///< at least one unit's
};

/// Works out the plan.
/// Homes go where the input says. What is flexible adapts to the host budget, in this order: the
/// least staging that works, gradients (unit by unit, the first ones stay in host memory), then
/// deeper staging and larger windows. Throws BudgetError naming the tier, its budget, what it would
/// hold, and the smallest budget that works.
[[nodiscard]] Plan make_plan(const PlanInput& input);

/// The smallest budgets with which make_plan succeeds for this input (its own budgets are not
/// looked at).
[[nodiscard]] TierBytes smallest_budgets(const PlanInput& input);

/// The plan as a table for people: what a parameter takes, a line an item, totals against budgets
/// last.
[[nodiscard]] std::string describe(const Plan& plan, const PlanInput& input);

}  // namespace strata::zero3
