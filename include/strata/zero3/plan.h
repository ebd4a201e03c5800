#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "strata/base/machine_memory.h"
#include "strata/base/number_format.h"
#include "strata/tiering/activation_room.h"
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

/// The input of a plan. Budgets, and everything that is planned, are for one rank; all ranks have
/// the same.
struct PlanInput {
  static constexpr std::uint64_t kNoBound = UINT64_MAX;

  std::vector<UnitLayout> units;  ///< in the order in which forward enters them
  /// Ranks of the run. What they share is cut into shards: each keeps one of every vector, an equal
  /// part of whole blocks of kMomentBlockElements. A unit in use is whole on every rank.
  int world_size = 1;
  /// What several ranks share (the stages of Rajbhandari et al., "ZeRO: Memory Optimizations Toward
  /// Training Trillion Parameter Models", SC 2020): 0, nothing, every rank keeps all states; 1 and
  /// 2, the optimizer's states and the gradients, while all weights stay on every rank's device; 3,
  /// the weights too. With one rank they are the same.
  int stage = 3;
  StateFormat format;
  tiering::Tier parameter_tier = tiering::Tier::kNvme;  ///< home of the weights
  tiering::Tier optimizer_tier = tiering::Tier::kNvme;  ///< home of master remainder and moments
  bool accumulate_fp32 = false;                         ///< more than one micro-batch per step
  /// Whether the device's memory is host memory: host code may touch it and the disk write to it.
  /// If not, states that rest there pass through host memory to be updated or read.
  bool device_memory_is_host = true;
  TierBytes budgets;
  /// Where no host budget is named: bounds what the host tier and a device tier of host memory take
  /// together. Nullopt: no bound.
  std::optional<HostMemoryBound> host_memory;
  bool nvme_available = true;                       ///< a directory is named: gradients may spill
  std::size_t nvme_directories = 1;                 ///< directories of the shard store
  std::uint64_t chunk_bytes = 1u << 20;             ///< chunk of the shard store
  std::uint64_t prefetch_elements = 50'000'000;     ///< elements wished for ahead of use
  std::uint64_t live_elements_max = 1'000'000'000;  ///< most kept unsharded on the device
  std::uint64_t window_elements_max = 0;            ///< cap of the optimizer's window; 0: none
  // Caps of what is there at most; the least that works is there all the same:
  std::uint64_t fetch_staging_max = kNoBound;     ///< bytes of the staging of weights
  std::uint64_t windows_elements_max = kNoBound;  ///< elements of all windows together
  /// A unit whose next use is farther away than so many elements is given back at once.
  std::uint64_t reuse_distance_max = kNoBound;
  /// Units of fewer elements stay on the device, as many as the other cap and the budget allow.
  std::uint64_t persistence_threshold = 0;
  std::uint64_t persistence_model_max = kNoBound;  ///< elements in all
  bool overlap_step = true;  ///< the optimizer's step may go on beside the next forward
  /// Whether states whose home is nvme are kept in what a bounded host budget leaves free.
  bool host_cache = true;
  std::uint64_t cached_weights_max = kNoBound;  ///< elements of a rank's weights so kept, at most
  tiering::ActivationRoom activations{};        ///< between forward and backward; may be empty

  /// Whether states that rest in `tier` have to be brought to host memory to be worked on.
  [[nodiscard]] bool is_elsewhere(tiering::Tier tier) const noexcept;
  /// Whether every rank keeps all states: stage 0, and one rank.
  [[nodiscard]] bool states_are_whole() const noexcept { return world_size == 1 || stage == 0; }
  /// Whether units are used where they rest: on the device, whole.
  [[nodiscard]] bool units_stay() const noexcept;
  /// Whether every rank's device has room for all units beside what rests there: stages 1 and 2.
  [[nodiscard]] bool weights_stay() const noexcept;
  /// Whether gradients may rest on nvme. Not those that every rank keeps all of.
  [[nodiscard]] bool gradients_may_spill() const noexcept {
    return nvme_available && (world_size == 1 || stage > 0);
  }
};

/// The place that a plan is made for.
struct PlanPlace {
  int world_size = 1;                 ///< ranks of the run
  bool device_memory_is_host = true;  ///< as in PlanInput
  /// What a machine that the plan will run on can give; it counts where no host budget is named.
  std::optional<HostMemoryBound> host_memory = std::nullopt;
};

/// The plan input of a config and units, for planning before anything is built. An engine begins
/// with that of no units. Below stage 3 weights are not offloaded: they are on the device, and what
/// the ranks of stages 1 and 2 share of them, the upper half of each master, rests with the
/// optimizer's states. Throws ConfigError when something is to be offloaded to nvme and no
/// directory is named.
[[nodiscard]] PlanInput plan_input_from(const formats::DsConfig& config,
                                        std::vector<UnitLayout> units = {},
                                        const PlanPlace& place = {});

/// A line of the plan: something that takes bytes of a tier.
struct PlanItem {
  std::string what;
  tiering::Tier tier;
  std::uint64_t bytes;
};

/// The states of a unit that rest in host memory although their home is nvme.
class CachedStates {
 public:
  [[nodiscard]] bool has(StateKind kind) const { return kinds_[static_cast<std::size_t>(kind)]; }
  void add(StateKind kind) { kinds_[static_cast<std::size_t>(kind)] = true; }
  bool operator==(const CachedStates&) const = default;

 private:
  std::array<bool, kStateKindCount> kinds_{};
};

/// The decision. Peak bytes per tier at run time equal `total`.
struct Plan {
  TierBytes total;
  std::vector<PlanItem> items;
  std::vector<tiering::Tier> gradient_tier;  ///< each unit's: host, or nvme where host has no room
  std::vector<StateFormat> formats;          ///< trainable vectors': the run's, and fp32 beside it
  /// Each unit's. They are neither read from nvme nor written to it in a step. What they had there
  /// stays taken: the totals of nvme are the same without them.
  std::vector<CachedStates> cached;
  std::vector<bool> persistent;  ///< each unit's: it stays on the device while its weights hold

  std::uint64_t slot_bytes = 0;          ///< size of a pinned staging buffer
  std::size_t fetch_slots = 0;           ///< for weights on their way to the device
  std::size_t gradient_slots = 0;        ///< for gradients on their way to their home
  std::uint64_t device_cache_bytes = 0;  ///< unsharded units; at least the largest one
  /// Gradients packed at a time on the device (hop reduce): a piece for each rank. The fp32 form of
  /// a piece fills a slot; with several micro-batches a step, sums of which are in fp32, so does
  /// the piece. An accelerator of one rank has so many pieces as the largest unit's gradient fills,
  /// as far as there is room beside two units: that gradient leaves while the next unit computes.
  /// 0 where gradients go straight home: one rank, and a device of host memory.
  std::uint64_t bucket_bytes = 0;
  /// The pieces that come from all ranks, on a device of host memory. Where its memory is none, all
  /// that ranks exchange passes through so many bytes of host memory. 0 with one rank.
  std::uint64_t exchange_bytes = 0;
  std::uint64_t window_elements = 0;
  std::size_t windows = 0;
  bool uses_nvme = false;
  bool gradients_on_nvme = false;  ///< at least one unit's gradients rest there
  /// Whether a step goes on beside the next forward. So it is where states pass through windows:
  /// the step then waits for transfers, and the forward computes meanwhile.
  bool overlaps_step = false;
};

/// Works out the plan.
/// Homes go where the input says. The rest adapts to the host budget, in this order: the least
/// staging that works, gradients (unit by unit, the first ones stay in host memory), deeper staging
/// and larger windows, then states whose home is nvme: weights before what the optimizer alone
/// keeps, the first units first. `host_memory` is divided in the same way: the device tier's least
/// comes first, then what the host tier has use for, and what is left lets the device tier keep
/// more units. Throws BudgetError naming the tier, its budget, the bytes that it would hold, and
/// the smallest budget that works.
[[nodiscard]] Plan make_plan(const PlanInput& input);

/// Throws the BudgetError of make_plan when no plan for these units keeps to `host_memory`. Costs
/// little: more units never need less, so it can be asked before a unit's memory is taken.
void require_host_memory(const PlanInput& input);

/// The smallest budgets with which make_plan succeeds for this input (its own budgets and
/// `host_memory` are not looked at).
[[nodiscard]] TierBytes smallest_budgets(const PlanInput& input);

/// The plan as a table for people: the bytes of a parameter, a line for each item, and at last the
/// totals against the budgets.
[[nodiscard]] std::string describe(const Plan& plan, const PlanInput& input);

}  // namespace strata::zero3
