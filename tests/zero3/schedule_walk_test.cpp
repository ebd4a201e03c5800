#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "strata/base/error.h"
#include "zero3/schedule.h"

/// \file
/// A random walk over schedules: programs that enter, leave, fail, change weights and evaluate at
/// random, each by its seed. A model that believes nothing carries the actions out and holds the
/// promises.

namespace strata::zero3::schedule_walk_test {
namespace {

using tiering::Region;
using tiering::Tier;

constexpr std::uint64_t kPage = tiering::RegionMap::kAlignment;

/// Carries actions out on books of its own.
class Model {
 public:
  Model(const ScheduleOptions& options, const std::vector<ScheduledUnit>& units)
      : options_(options), units_(units), held_(units.size()) {}

  /// "" or what is broken.
  std::string carry_out(std::span<const Action> actions) {
    for (const Action& action : actions) {
      const std::string broken = carry_out(action);
      if (!broken.empty()) return broken + " (unit " + std::to_string(action.unit) + ")";
    }
    return {};
  }

  std::string check_readable(UnitId unit) const {
    return held_[unit].readable ? "" : "a unit was used before it was ready";
  }
  void use(UnitId unit) { ++held_[unit].uses; }
  void leave(UnitId unit) { --held_[unit].uses; }
  [[nodiscard]] bool is_used(UnitId unit) const { return held_[unit].uses > 0; }
  void change_weights(UnitId unit) { ++held_[unit].weights; }
  /// The unit's arrival failed: what it had is gone.
  void fail(UnitId unit) { held_[unit] = {.weights = held_[unit].weights}; }

  /// The fault of the bytes that a unit read now sees; "" for none.
  std::string check_fresh(UnitId unit) const {
    return held_[unit].arrived_with == held_[unit].weights ? ""
                                                           : "a unit has the weights of before";
  }
  [[nodiscard]] std::uint64_t device_bytes() const {
    std::uint64_t bytes = 0;
    for (const Held& held : held_) bytes += held.region ? held.region->bytes : 0;
    return bytes;
  }
  [[nodiscard]] std::uint32_t slots() const {
    std::uint32_t slots = 0;
    for (const Held& held : held_) slots += held.slots;
    return slots;
  }

 private:
  struct Held {
    std::optional<Region> region{};
    std::uint32_t slots = 0;
    bool readable = false;
    bool fetching = false;
    int uses = 0;
    int weights = 0;       // how often they have changed
    int arrived_with = 0;  // a version, like `weights`
  };

  std::string carry_out(const Action& action) {
    Held& held = held_[action.unit];
    switch (action.kind) {
      case Action::Kind::kEvict:
        if (held.uses > 0) return "a unit in use was evicted";
        if (!held.readable) return "a unit was evicted that was not there";
        held.readable = false;
        held.region.reset();
        return {};
      case Action::Kind::kDrop:
        if (!held.fetching) return "a fetch was dropped that there was not";
        held.fetching = false;
        held.region.reset();
        held.slots = 0;
        return {};
      case Action::Kind::kFetch:
        if (held.readable) return "a unit was fetched that was there";
        if (!held.fetching) held.arrived_with = held.weights;
        held.fetching = true;
        if (action.region) return take(held, *action.region);
        held.slots += action.pieces;
        if (held.slots > units_[action.unit].pieces) return "more pieces than there are";
        if (slots() > options_.staging_slots) return "more slots than there are";
        return {};
      case Action::Kind::kUnshard: {
        if (held.readable) return "a unit was unsharded twice";
        if (!held.fetching) held.arrived_with = held.weights;
        held.fetching = false;
        const std::uint32_t free = options_.staging_slots - slots() + std::exchange(held.slots, 0);
        const bool needs_slots = options_.home == Tier::kNvme && !options_.fetches_into_regions &&
                                 units_[action.unit].pieces > 0;
        if (needs_slots && free == 0) {
          return "a unit has no slot to come through: the engine would stand still forever";
        }
        held.readable = true;
        if (options_.home == Tier::kDevice) return action.region ? "a region for nothing" : "";
        if (!action.region) return "a unit was unsharded into nothing";
        return held.region ? "" : take(held, *action.region);
      }
    }
    return "an unknown action";
  }

  std::string take(Held& held, Region region) {
    for (const Held& other : held_) {
      if (!other.region || &other == &held) continue;
      if (region.offset < other.region->offset + other.region->bytes &&
          other.region->offset < region.offset + region.bytes) {
        return "two live regions overlap";
      }
    }
    if (region.offset + region.bytes > options_.device_bytes) return "beyond the budget";
    held.region = region;
    return {};
  }

  ScheduleOptions options_;
  const std::vector<ScheduledUnit>& units_;
  std::vector<Held> held_;
};

/// One program, from its seed. Returns "" or what is broken.
class Walk {
 public:
  explicit Walk(unsigned seed)
      : random_(seed),
        units_(make_units()),
        options_(make_options()),
        schedule_(options_, units_),
        twin_(options_, units_),
        model_(options_, units_) {}

  std::string run() {
    const int cycles = 2 + pick(4);
    std::vector<UnitId> order;
    for (int i = 1 + pick(8); i > 0; --i) order.push_back(any_unit());
    for (int cycle = 0; cycle < cycles && broken_.empty(); ++cycle) {
      if (pick(4) == 0) std::shuffle(order.begin(), order.end(), random_);
      if (pick(6) == 0) evaluate(order);
      micro_batch(order);
      if (pick(2) == 0) step();
    }
    while (!stack_.empty()) leave();
    return broken_;
  }

 private:
  int pick(int count) { return static_cast<int>(random_() % static_cast<unsigned>(count)); }
  UnitId any_unit() { return static_cast<UnitId>(pick(static_cast<int>(units_.size()))); }

  std::vector<ScheduledUnit> make_units() {
    std::vector<ScheduledUnit> units(static_cast<std::size_t>(1 + pick(10)));
    for (std::size_t i = 0; i < units.size(); ++i) {
      const auto pages = static_cast<std::uint64_t>(pick(5));
      units[i] = {"u" + std::to_string(i), pages * kPage, pages * 10,
                  static_cast<std::uint32_t>(pages)};
    }
    return units;
  }

  ScheduleOptions make_options() {
    ScheduleOptions options;
    options.home = pick(8) == 0 ? Tier::kHost : pick(16) == 0 ? Tier::kDevice : Tier::kNvme;
    options.fetches_into_regions = pick(2) == 0;
    options.staging_slots = static_cast<std::uint32_t>(2 + pick(6));
    options.prefetch_elements = static_cast<std::uint64_t>(pick(200));
    options.step_hands_over = pick(2) == 0;
    if (pick(3) == 0) options.reuse_distance_max = static_cast<std::uint64_t>(pick(200));
    if (pick(3) == 0) {
      for (std::size_t i = 0; i < units_.size(); ++i) options.persistent.push_back(pick(3) == 0);
    }
    std::uint64_t largest = kPage;
    for (const ScheduledUnit& unit : units_) largest = std::max(largest, unit.region_bytes);
    options.device_bytes = largest + static_cast<std::uint64_t>(pick(12)) * kPage;
    return options;
  }

  /// Takes what the schedule decided, after its twin has decided the same.
  template <class Event>
  void decide(const Event& event) {
    const std::span<const Action> actions = event(schedule_);
    const std::span<const Action> again = event(twin_);
    if (!std::equal(actions.begin(), actions.end(), again.begin(), again.end())) {
      note("equal inputs gave unequal actions");
    }
    note(model_.carry_out(actions));
    if (options_.home != Tier::kDevice && model_.device_bytes() != schedule_.device_bytes_used()) {
      note("the books of the device differ");
    }
    if (options_.staging_slots - model_.slots() != schedule_.free_slots()) {
      note("the books of the slots differ");
    }
  }
  void note(const std::string& broken) {
    if (broken_.empty()) broken_ = broken;
  }

  void enter(UnitId unit, Pass pass, View view) {
    const bool was_used = model_.is_used(unit);
    try {
      decide([&](Schedule& schedule) {
        try {
          return schedule.enter(unit, pass, view);
        } catch (const BudgetError&) {
          if (&schedule == &schedule_) throw_in_twin(unit, pass, view);
          throw;
        }
      });
    } catch (const BudgetError&) {
      if (stack_.empty()) note("a unit was refused with nothing in use");
      return;
    }
    if (!was_used && pick(50) == 0) {  // it does not arrive
      schedule_.fail(unit);
      twin_.fail(unit);
      model_.fail(unit);
      return;
    }
    model_.use(unit);
    stack_.push_back(unit);
    note(model_.check_readable(unit));
    if (!was_used) note(model_.check_fresh(unit));
  }
  void throw_in_twin(UnitId unit, Pass pass, View view) {
    try {
      (void)twin_.enter(unit, pass, view);
      note("the twin found room");
    } catch (const BudgetError&) {
    }
  }

  void leave() {
    const UnitId unit = stack_.back();
    stack_.pop_back();
    model_.leave(unit);
    decide([&](Schedule& schedule) { return schedule.leave(unit); });
  }

  void use(UnitId unit, Pass pass, View view) {
    const std::size_t depth = stack_.size();
    enter(unit, pass, view);
    if (pick(4) == 0) use(any_unit(), pass, view);
    while (stack_.size() > depth) leave();
  }

  void micro_batch(const std::vector<UnitId>& order) {
    const bool last = pick(2) == 0;
    for (Schedule* schedule : {&schedule_, &twin_}) schedule->expect_step(last);
    std::vector<UnitId> forwards;
    for (const UnitId unit : order) {
      if (pick(8) == 0) continue;  // this time it does not come
      use(unit, Pass::kForward, View::kTraining);
      forwards.push_back(unit);
      if (pick(20) == 0) change_weights(any_unit());
    }
    std::reverse(forwards.begin(), forwards.end());
    for (const UnitId unit : forwards) use(unit, Pass::kBackward, View::kTraining);
    const bool complete = pick(8) != 0;
    for (Schedule* schedule : {&schedule_, &twin_}) schedule->end_micro_batch(complete);
  }

  void evaluate(const std::vector<UnitId>& order) {
    for (const UnitId unit : order) use(unit, Pass::kForward, View::kEvaluating);
  }

  void change_weights(UnitId unit) {
    model_.change_weights(unit);
    decide([&](Schedule& schedule) { return schedule.change_weights(unit); });
  }

  void step() {
    decide([](Schedule& schedule) { return schedule.release_staging(); });
    for (UnitId unit = 0; unit < units_.size(); ++unit) {
      if (pick(3) != 0) change_weights(unit);
    }
    decide([](Schedule& schedule) { return schedule.begin_step(); });
  }

  std::mt19937 random_;
  std::vector<ScheduledUnit> units_;
  ScheduleOptions options_;
  Schedule schedule_, twin_;
  Model model_;
  std::vector<UnitId> stack_;
  std::string broken_;
};

/// No unit is used before it is ready or with weights of before, no two live regions overlap,
/// nothing in use is evicted, no unit waits for what cannot come, budgets and slots are held, equal
/// inputs give equal actions.
TEST(ScheduleWalk, HoldsItsPromisesForEverySeed) {
#if defined(NDEBUG) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  constexpr unsigned kSeeds = 100'000;
#else
  constexpr unsigned kSeeds = 5'000;
#endif
  for (unsigned seed = 0; seed < kSeeds; ++seed) {
    const std::string broken = Walk(seed).run();
    ASSERT_EQ(broken, "") << "seed " << seed;
  }
}

}  // namespace
}  // namespace strata::zero3::schedule_walk_test
