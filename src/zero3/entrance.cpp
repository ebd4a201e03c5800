#include "zero3/entrance.h"

#include <memory>
#include <utility>

#include "strata/base/error.h"
#include "strata/zero3/sharded.h"

namespace strata::zero3 {

void SpanEntries::add(const UnitHandle& unit) {
  entries_.emplace_back(unit, unit_of(unit)->weights_version());
}

void SpanEntries::refuse_changed_weights() const {
  for (const auto& [handle, version] : entries_) {
    const std::shared_ptr<Unit> unit = unit_of(handle);
    if (unit->weights_version() == version) continue;
    throw UsageError("the weights of unit '" + unit->name() +
                     "' have changed between the forward of a span of units and its backward, "
                     "which runs it again; call backward before they change");
  }
}

void Entrance::announce() {
  machinery_.prepare();
  editor_.refuse_inside_visitor("a unit");
  if (hook_) hook_();
}

void Entrance::enter(Unit& unit, Pass pass, View view) {
  if (unit.visit != nullptr) editor_.take_over_changes(unit);
  if (&unit == held_) {
    unit.check_parameters();
  } else {
    machinery_.mover().enter(unit, pass, view);
    if (pass == Pass::kForward && activations() != nullptr) activations()->begin_group();
  }
}

void Entrance::leave(Unit& unit) {
  if (&unit != held_) machinery_.mover().leave(unit);
}

void Entrance::take_gradients(Unit& unit, torch::autograd::variable_list gradients) {
  if (machinery_.gradients() == nullptr) return;  // nothing is trainable
  if (&unit == held_) {
    sum_.add(std::move(gradients));
  } else {
    machinery_.gradients()->accumulate(unit, std::move(gradients));
  }
}

// ---- for what runs a sequence of units ---------------------------------------------------------

void Entrance::hold(Unit& unit, Pass pass) {
  enter(unit, pass, View::kTraining);
  held_ = &unit;
}

void Entrance::bring_gradients() {
  if (machinery_.gradients() == nullptr) return;
  machinery_.gradients()->accumulate_sums(*held_, sum_.take());
}

void Entrance::let_go() {
  sum_.drop();
  leave(*std::exchange(held_, nullptr));
}

}  // namespace strata::zero3
