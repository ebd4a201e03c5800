#include "zero3/schedule.h"

#include <algorithm>
#include <utility>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::zero3 {

namespace {

// Entries that one decision looks at for prefetching: the next decision goes on from there.
constexpr int kLookedAt = 64;
// Slots that a unit gets at least when it has to come through them now: one arrives while the
// other is copied.
constexpr std::uint32_t kSlotsToUnshard = 2;

}  // namespace

ScheduleOptions schedule_options(const Plan& plan, const PlanInput& input) {
  using tiering::Tier;
  const bool is_shard_on_device = input.parameter_tier == Tier::kDevice && !input.units_stay();
  return {// A shard on the device is brought to a unit's region as one in host memory is.
          .home = is_shard_on_device ? Tier::kHost : input.parameter_tier,
          .device_bytes = plan.device_cache_bytes,
          // A shard among others does not begin where the disk can write to.
          .fetches_into_regions = input.device_memory_is_host && input.states_are_whole(),
          .staging_slots = static_cast<std::uint32_t>(plan.fetch_slots),
          .prefetch_elements = input.prefetch_elements,
          .step_hands_over = plan.overlaps_step,
          .reuse_distance_max = input.reuse_distance_max,
          .persistent = plan.persistent};
}

Schedule::Schedule(const ScheduleOptions& options, std::vector<ScheduledUnit> units)
    : options_(options),
      units_(std::move(units)),
      states_(units_.size()),
      trace_(units_.size()),
      regions_(options.device_bytes),
      evictable_key_(units_.size()),
      free_slots_(options.staging_slots) {}

// ---- events ----------------------------------------------------------------------------------

std::span<const Action> Schedule::enter(UnitId unit, Pass pass, View view) {
  actions_.clear();
  UnitResidency& state = states_[unit];
  const bool is_readable = meaning_of(state.residency).is_readable;
  if (!is_readable) make_room(unit, view);  // throws, if anything does, before anything changes
  trace_.enter({unit, pass}, view);
  if (is_readable) {
    if (state.residency == Residency::kCached) forget(unit);
  } else {
    if (state.residency == Residency::kFetching) stop_fetching(unit);
    actions_.push_back({Action::Kind::kUnshard, unit, state.region});
    state.held = state.weights;
  }
  state.residency = Residency::kUnsharded;
  state.has_changed = false;
  state.last_use = ++tick_;
  if (++state.uses == 1) in_use_.push_back(unit);
  prefetch(view);
  return actions_;
}

std::span<const Action> Schedule::leave(UnitId unit) {
  actions_.clear();
  UnitResidency& state = states_[unit];
  STRATA_CHECK(state.residency == Residency::kUnsharded && state.uses > 0,
               "unit '" + units_[unit].name + "' was left without having been entered");
  if (--state.uses > 0) return {};
  std::erase(in_use_, unit);
  state.residency = Residency::kCached;
  remember(unit, ahead_view_);
  if (!state.is_current() || !is_used_soon(unit, ahead_view_)) evict(unit);
  return actions_;
}

void Schedule::fail(UnitId unit) {
  spoil(unit);
  while (states_[unit].uses > 0) leave(unit);
  actions_.clear();
}

std::span<const Action> Schedule::change_weights(UnitId unit) {
  actions_.clear();
  UnitResidency& state = states_[unit];
  ++state.weights;
  if (state.residency == Residency::kFetching || state.residency == Residency::kCached) {
    evict(unit);
  }
  state.has_changed = true;
  return actions_;
}

void Schedule::spoil(UnitId unit) { states_[unit].held = UnitResidency::kNoVersion; }

std::span<const Action> Schedule::release_staging() {
  actions_.clear();
  while (!staged_.empty()) evict(staged_.back());
  return actions_;
}

std::span<const Action> Schedule::begin_step() {
  actions_.clear();
  prefetch(View::kTraining);
  return actions_;
}

std::optional<UnitId> Schedule::unit_in_use() const {
  if (in_use_.empty()) return std::nullopt;
  return in_use_.back();
}

// ---- ahead of use ----------------------------------------------------------------------------

void Schedule::prefetch(View view) {
  if (options_.home != tiering::Tier::kNvme || !trace_.recorded()) return;
  fill_slots();
  const std::uint64_t position = trace_.position(view);
  const bool looks_anew = view != ahead_view_ || position < looked_from_;
  ahead_ = looks_anew ? position : std::max(ahead_, position);
  ahead_view_ = view;
  looked_from_ = position;
  const std::uint64_t end =
      view == View::kTraining && step_follows_ ? trace_.size() : position + trace_.size();
  for (int looked = 0; looked < kLookedAt && ahead_ < end; ++looked) {
    if (fetching_elements_ >= options_.prefetch_elements) return;
    const std::optional<UnitId> unit = trace_.expected_at(ahead_, view);
    if (unit && states_[*unit].residency == Residency::kSharded && units_[*unit].pieces > 0) {
      if (!start_fetch(*unit, ahead_, view)) return;
    }
    ++ahead_;
  }
}

/// False when there is no place for it now.
bool Schedule::start_fetch(UnitId unit, std::uint64_t needed_at, View view) {
  const bool has_region =
      options_.fetches_into_regions && take_region(unit, worth_evicting_for(needed_at, view), view);
  UnitResidency& state = states_[unit];
  const bool is_handed_over =
      options_.step_hands_over && options_.fetches_into_regions && state.has_changed;
  // Slots are for what the disk can bring: the step brings a unit to a region, or not at all.
  if (!has_region && (is_handed_over || free_slots_ == 0)) return false;
  state.residency = Residency::kFetching;
  state.held = state.weights;
  state.elements_ahead = is_handed_over ? 0 : units_[unit].elements;
  fetching_elements_ += state.elements_ahead;
  if (has_region) {
    remember(unit, view);
    actions_.push_back({Action::Kind::kFetch, unit, state.region, units_[unit].pieces});
  } else {
    staged_.push_back(unit);
    fill_slots();
  }
  return true;
}

/// The use after which a unit may be evicted for a fetch ahead of use: later than the fetched unit,
/// and than those in use, which are soon the better ones to evict.
std::uint64_t Schedule::worth_evicting_for(std::uint64_t needed_at, View view) const {
  for (const UnitId used : in_use_) needed_at = std::max(needed_at, trace_.next_use(used, view));
  return needed_at;
}

/// Starts as many pieces of staged units as there are free slots, the first unit's first.
void Schedule::fill_slots() {
  for (const UnitId unit : staged_) {
    if (free_slots_ == 0) return;
    UnitResidency& state = states_[unit];
    const std::uint32_t pieces = std::min(free_slots_, units_[unit].pieces - state.slots);
    if (pieces == 0) continue;
    state.slots += pieces;
    free_slots_ -= pieces;
    actions_.push_back({Action::Kind::kFetch, unit, std::nullopt, pieces});
  }
}

/// Gives up the fetch of another unit: the one that is needed last among those that hold slots.
void Schedule::free_a_slot(UnitId for_unit, View view) {
  std::optional<UnitId> last;
  std::uint64_t last_use = 0;
  for (const UnitId unit : staged_) {
    const std::uint64_t next_use = trace_.next_use(unit, view);
    if (unit == for_unit || states_[unit].slots == 0 || next_use < last_use) continue;
    last = unit;
    last_use = next_use;
  }
  STRATA_CHECK(last.has_value(), "no staging slot for unit '" + units_[for_unit].name + "'");
  evict(*last);
}

// ---- room on the device ----------------------------------------------------------------------

/// Gives a unit that is to be unsharded its region, and slots to come through.
void Schedule::make_room(UnitId unit, View view) {
  UnitResidency& state = states_[unit];
  if (options_.home == tiering::Tier::kDevice) return;
  if (!state.region) {
    std::vector<tiering::Region> kept;
    for (const UnitId used : in_use_) {
      if (states_[used].region) kept.push_back(*states_[used].region);
    }
    const std::uint64_t bytes = units_[unit].region_bytes;
    if (!regions_.would_fit_beside(kept, bytes)) {
      throw BudgetError("unit '" + units_[unit].name + "' needs " + format_bytes(bytes) +
                        " of the device tier, whose " + format_bytes(regions_.capacity()) +
                        " for unsharded units are taken by units in use; units that run inside "
                        "one another need a larger device budget");
    }
    const bool taken = take_region(unit, std::nullopt, view);
    STRATA_CHECK(taken, "no room for unit '" + units_[unit].name + "' after all evictions");
  }
  if (options_.home != tiering::Tier::kNvme || options_.fetches_into_regions) return;
  const std::uint32_t needed =
      std::min({units_[unit].pieces, kSlotsToUnshard, options_.staging_slots});
  while (free_slots_ + state.slots < needed) free_a_slot(unit, view);
}

/// Evicts units, the farthest use first, until there is a region; only those used later than
/// `later_than`, if it is given. False when that is not enough.
bool Schedule::take_region(UnitId unit, std::optional<std::uint64_t> later_than, View view) {
  while (true) {
    states_[unit].region = regions_.try_take(units_[unit].region_bytes);
    if (states_[unit].region) return true;
    const std::optional<UnitId> victim = victim_for(later_than, view);
    if (!victim) return false;
    evict(*victim);
  }
}

/// The unit to be evicted next, if any may be.
std::optional<UnitId> Schedule::victim_for(std::optional<std::uint64_t> later_than, View view) {
  const auto last = farthest(view);
  if (last != evictable_.end() && (!later_than || last->next_use > *later_than)) return last->unit;
  if (later_than || persistent_.empty()) return std::nullopt;
  return *persistent_.rbegin();
}

/// The evictable unit that is used last. Next uses in the set are brought up to date only where it
/// matters: at the end, where a use may be nearer than it was, and at the beginning, where one may
/// have been passed.
std::set<Schedule::Evictable>::iterator Schedule::farthest(View view) {
  const auto refresh = [&](UnitId unit) {
    forget(unit);
    remember(unit, view);
  };
  while (!evictable_.empty() && evictable_.begin()->next_use < trace_.position(view)) {
    refresh(evictable_.begin()->unit);
  }
  while (!evictable_.empty()) {
    const auto last = std::prev(evictable_.end());
    if (trace_.next_use(last->unit, view) == last->next_use) return last;
    refresh(last->unit);
  }
  return evictable_.end();
}

bool Schedule::is_persistent(UnitId unit) const {
  return unit < options_.persistent.size() && options_.persistent[unit];
}

/// Whether the next use of a unit, as far as the order is known, lies within the reuse distance.
bool Schedule::is_used_soon(UnitId unit, View view) const {
  if (options_.reuse_distance_max == ScheduleOptions::kNoBound) return true;
  if (!trace_.recorded() || is_persistent(unit)) return true;
  const std::uint64_t next_use = trace_.next_use(unit, view);
  if (next_use == OrderTrace::kNever) return false;
  std::uint64_t elements = 0;
  for (std::uint64_t place = trace_.position(view); place < next_use; ++place) {
    if (const auto between = trace_.expected_at(place, view)) elements += units_[*between].elements;
    if (elements > options_.reuse_distance_max) return false;
  }
  return true;
}

void Schedule::remember(UnitId unit, View view) {
  if (!states_[unit].region) return;
  if (is_persistent(unit)) {
    persistent_.insert(unit);
    return;
  }
  evictable_key_[unit] = trace_.next_use(unit, view);
  evictable_.insert({evictable_key_[unit], states_[unit].last_use, unit});
}

void Schedule::forget(UnitId unit) {
  persistent_.erase(unit);
  evictable_.erase({evictable_key_[unit], states_[unit].last_use, unit});
}

/// Ends the fetch ahead of a unit: it is used now, or dropped.
void Schedule::stop_fetching(UnitId unit) {
  UnitResidency& state = states_[unit];
  fetching_elements_ -= std::exchange(state.elements_ahead, 0);
  free_slots_ += std::exchange(state.slots, 0);
  if (std::erase(staged_, unit) == 0) forget(unit);
}

void Schedule::evict(UnitId unit) {
  UnitResidency& state = states_[unit];
  if (state.residency == Residency::kFetching) {
    stop_fetching(unit);
    actions_.push_back({Action::Kind::kDrop, unit});
  } else {
    forget(unit);
    actions_.push_back({Action::Kind::kEvict, unit});
  }
  if (state.region) regions_.give_back(*state.region);
  state = {.weights = state.weights, .last_use = state.last_use, .has_changed = state.has_changed};
  look_again_at(unit);
}

/// Lets prefetching come back to a unit that it believed to be there.
void Schedule::look_again_at(UnitId unit) {
  const std::uint64_t place = trace_.next_use(unit, ahead_view_);
  ahead_ = std::max(std::min(ahead_, place), trace_.position(ahead_view_));
}

}  // namespace strata::zero3
