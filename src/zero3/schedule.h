#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "strata/tiering/region_map.h"
#include "strata/tiering/tier.h"
#include "strata/zero3/plan.h"
#include "zero3/order_trace.h"
#include "zero3/residency.h"

namespace strata::zero3 {

/// The schedule's view of a unit.
struct ScheduledUnit {
  std::string name;
  std::uint64_t region_bytes = 0;  ///< its size on the device
  std::uint64_t elements = 0;
  std::uint32_t pieces = 0;  ///< staging slots that its weights fill
};

struct ScheduleOptions {
  static constexpr std::uint64_t kNoBound = PlanInput::kNoBound;

  tiering::Tier home = tiering::Tier::kHost;  ///< where weights rest
  std::uint64_t device_bytes = 0;             ///< room for unsharded units; 0 if they rest there
  bool fetches_into_regions = false;          ///< the disk can write to the device's memory
  std::uint32_t staging_slots = 0;
  std::uint64_t prefetch_elements = 0;  ///< most that is fetched ahead of use
  /// Whether a step that goes on beside forward hands new weights to the regions of units. Such a
  /// unit is no fetch for the disk, and does not count among `prefetch_elements`: the sooner it has
  /// its region, the surer it is not read back.
  bool step_hands_over = false;
  /// A unit that is left and not used again within so many elements is given back at once.
  std::uint64_t reuse_distance_max = kNoBound;
  /// Units that stay while their weights hold, unless one in use finds no room; empty: none.
  std::vector<bool> persistent{};
};

/// The limits that a plan sets for a schedule.
[[nodiscard]] ScheduleOptions schedule_options(const Plan& plan, const PlanInput& input);

/// An action to be done next, in order.
struct Action {
  enum class Kind : std::uint8_t {
    kEvict,    ///< takes the parameters their bytes; the region belongs to nobody
    kDrop,     ///< gives up the unit's fetch; nothing of it is kept
    kFetch,    ///< starts `pieces` more of the unit's weights, into `region` or else into slots
    kUnshard,  ///< brings the rest, waits for it, and gives the parameters their bytes
  };
  Kind kind;
  UnitId unit;
  std::optional<tiering::Region> region{};
  std::uint32_t pieces = 0;
  bool operator==(const Action&) const = default;
};

/// Decides which units are on the device: (state, event) -> (actions, next state).
///
/// The object is the state, a value: a copy of it can be asked "what if". Every method is an event
/// and returns what is to be done because of it, in order; the span is valid until the next one. No
/// clock, no I/O, no tensors: a decision never depends on when a transfer ended, so a run repeats.
/// `UnitMover` carries the actions out.
///
/// Its rules: a unit that is entered gets room. The next units by the recorded order (`OrderTrace`)
/// are fetched ahead of use, as far as `prefetch_elements`, regions and slots go. Room is made by
/// evicting the unit whose next use is farthest (L. A. Belady, "A Study of Replacement Algorithms
/// for a Virtual-Storage Computer", 1966); a fetch ahead of use evicts only units that are used
/// later than it and than the units in use. An unexpected order drops only fetches whose place the
/// entered unit needs. Persistent units go last, and for no fetch ahead of use.
///
/// The cost of a decision does not grow with the number of units, except for a logarithm, for
/// the entries that a new order moves, and for those within a reuse distance where one is given.
class Schedule {
 public:
  Schedule(const ScheduleOptions& options, std::vector<ScheduledUnit> units);

  // ---- events ----
  /// Enters a unit. Afterwards, with the actions carried out, it is readable. Throws
  /// BudgetError, having decided nothing, when the units in use leave no room for it.
  std::span<const Action> enter(UnitId unit, Pass pass, View view);
  /// Leaves a unit; once for every `enter`.
  std::span<const Action> leave(UnitId unit);
  /// Tells that the kUnshard of `unit` failed and nobody uses it: it is sharded again.
  void fail(UnitId unit);
  /// Tells that the weights at home are about to change, or have: the device's copy is not kept.
  std::span<const Action> change_weights(UnitId unit);
  /// Tells not to keep the device's copy of a unit in use after its last use.
  void spoil(UnitId unit);
  /// Frees the staging slots for something else.
  std::span<const Action> release_staging();
  /// Tells that a micro-batch is over; `complete` means what it does to OrderTrace::end_cycle.
  void end_micro_batch(bool complete) { trace_.end_cycle(complete); }
  /// Says whether a step follows the micro-batch that comes. If so, nothing is fetched beyond its
  /// end: the weights change in between.
  void expect_step(bool follows) { step_follows_ = follows; }
  /// Tells that a step is over: fetches the units with which the next one begins.
  std::span<const Action> begin_step();

  // ---- questions ----
  [[nodiscard]] const UnitResidency& at(UnitId unit) const { return states_[unit]; }
  [[nodiscard]] std::optional<UnitId> unit_in_use() const;
  [[nodiscard]] std::uint64_t device_bytes_used() const noexcept { return regions_.used(); }
  [[nodiscard]] std::uint32_t free_slots() const noexcept { return free_slots_; }
  [[nodiscard]] std::uint64_t fetching_elements() const noexcept { return fetching_elements_; }

 private:
  /// A unit whose region can be had, with its next use as it was known when it was put here.
  struct Evictable {
    std::uint64_t next_use;
    std::uint64_t last_use;
    UnitId unit;
    /// The last in order is evicted first: the farthest use, of these the longest unused.
    bool operator<(const Evictable& other) const {
      if (next_use != other.next_use) return next_use < other.next_use;
      if (last_use != other.last_use) return last_use > other.last_use;
      return unit < other.unit;
    }
  };

  void prefetch(View view);
  [[nodiscard]] bool start_fetch(UnitId unit, std::uint64_t needed_at, View view);
  [[nodiscard]] std::uint64_t worth_evicting_for(std::uint64_t needed_at, View view) const;
  void fill_slots();
  void free_a_slot(UnitId for_unit, View view);
  void make_room(UnitId unit, View view);
  [[nodiscard]] bool take_region(UnitId unit, std::optional<std::uint64_t> later_than, View view);
  [[nodiscard]] std::optional<UnitId> victim_for(std::optional<std::uint64_t> later_than,
                                                 View view);
  [[nodiscard]] std::set<Evictable>::iterator farthest(View view);
  [[nodiscard]] bool is_persistent(UnitId unit) const;
  [[nodiscard]] bool is_used_soon(UnitId unit, View view) const;
  void remember(UnitId unit, View view);
  void forget(UnitId unit);
  void stop_fetching(UnitId unit);
  void evict(UnitId unit);
  void look_again_at(UnitId unit);

  ScheduleOptions options_;
  std::vector<ScheduledUnit> units_;
  std::vector<UnitResidency> states_;
  OrderTrace trace_;
  tiering::RegionMap regions_;
  std::vector<UnitId> in_use_;
  std::vector<UnitId> staged_;  // units fetched without a region, in that order
  std::set<Evictable> evictable_;
  std::vector<std::uint64_t> evictable_key_;  // each unit's next_use in the set
  std::set<UnitId> persistent_;               // persistent units whose region can be had
  std::uint32_t free_slots_ = 0;
  std::uint64_t fetching_elements_ = 0;
  std::uint64_t tick_ = 0;
  std::uint64_t ahead_ = 0;  // the place up to which units have been looked at for prefetching
  std::uint64_t looked_from_ = 0;
  View ahead_view_ = View::kTraining;
  bool step_follows_ = true;
  std::vector<Action> actions_;
};

}  // namespace strata::zero3
