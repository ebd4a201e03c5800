#include "zero3/entrance.h"

namespace strata::zero3 {

void Entrance::announce() {
  machinery_.prepare();
  editor_.refuse_inside_visitor("a unit");
  if (hook_) hook_();
}

void Entrance::enter(Unit& unit, Pass pass, View view) {
  if (unit.visit != nullptr) editor_.take_over_changes(unit);
  machinery_.mover().enter(unit, pass, view);
}

void Entrance::leave(Unit& unit) { machinery_.mover().leave(unit); }

void Entrance::take_gradients(Unit& unit, torch::autograd::variable_list gradients) {
  if (machinery_.gradients() == nullptr) return;  // nothing is trainable
  machinery_.gradients()->accumulate(unit, std::move(gradients));
}

}  // namespace strata::zero3
