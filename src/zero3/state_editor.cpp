#include "zero3/state_editor.h"

#include <numeric>
#include <utility>

#include "strata/base/error.h"
#include "strata/optim_cpu/convert.h"
#include "zero3/parameter_record.h"
#include "zero3/parameter_values.h"

namespace strata::zero3 {
namespace {

/// Keeps a unit's parameters readable for the length of a scope.
class UnshardedScope {
 public:
  UnshardedScope(UnitMover& mover, Unit& unit) : mover_(mover), unit_(unit) {
    mover.enter(unit, Pass::kForward, View::kEvaluating);
  }
  ~UnshardedScope() { mover_.leave(unit_); }
  UnshardedScope(const UnshardedScope&) = delete;
  UnshardedScope& operator=(const UnshardedScope&) = delete;

 private:
  UnitMover& mover_;
  Unit& unit_;
};

/// Records a unit's parameters as they were, for the length of a scope.
class VisitScope {
 public:
  explicit VisitScope(Unit& unit)
      : unit_(unit), record_(unit), outer_(std::exchange(unit.visit, &record_)) {}
  ~VisitScope() { unit_.visit = outer_; }
  VisitScope(const VisitScope&) = delete;
  VisitScope& operator=(const VisitScope&) = delete;

 private:
  Unit& unit_;
  ParameterRecord record_;
  ParameterRecord* outer_;
};

std::string full_name(const Unit& unit, std::size_t parameter) {
  return unit.layout().full_name(unit.layout().parameters[parameter]);
}

std::vector<std::size_t> all_parameters(const Unit& unit) {
  std::vector<std::size_t> all(unit.parameters().size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  return all;
}

/// Writes the compute weights of new masters where the unit in use reads them.
void refresh_region(Unit& unit, std::size_t parameter, const torch::Tensor& masters) {
  if (unit.region().empty()) return;  // they are read at home
  const StateFormat& format = unit.vector_of(parameter).format;
  const torch::Tensor weights = torch::empty(masters.sizes(), scalar_type(format.precision));
  optim_cpu::split_master(
      format, {masters.const_data_ptr<float>(), static_cast<std::size_t>(masters.numel())},
      static_cast<std::byte*>(weights.mutable_data_ptr()),
      /*master=*/nullptr);
  unit.parameters()[parameter].detach().copy_(weights);
}

}  // namespace

// ---- at rest -----------------------------------------------------------------------------------

void StateEditor::release_staging() {
  machinery_.mover().release_staging();
  if (machinery_.gradients() != nullptr) machinery_.gradients()->settle();
}

StateAccess& StateEditor::at_rest(const std::string& what) {
  machinery_.prepare();
  machinery_.refuse_in_use(what);
  refuse_inside_visitor(what);
  machinery_.finish_step();
  release_staging();
  return machinery_.states();
}

void StateEditor::refuse_inside_visitor(const std::string& what) const {
  if (!machinery_.states().is_in_use()) return;
  throw UsageError(what +
                   " was called inside a visitor of masters or gradients, whose buffers it needs; "
                   "do one after the other");
}

torch::Tensor StateEditor::checked(const Unit& unit, std::size_t parameter,
                                   const torch::Tensor& values) {
  return checked_masters(full_name(unit, parameter), unit.layout().parameters[parameter].shape,
                         values, unit.vector_of(parameter).format.precision);
}

void StateEditor::visit_masters(const ParameterVisitor& visit) {
  for (const auto& unit : units_.all()) {
    at_rest("visit_masters()").read_masters(*unit, [&](std::size_t i, auto& value) {
      visit(full_name(*unit, i), value);
    });
  }
}

void StateEditor::visit_masters(Unit& unit, const ParameterVisitor& visit) {
  at_rest("visit_masters()").read_masters(unit, [&](std::size_t i, auto& value) {
    visit(unit.layout().parameters[i].name, value);
  });
}

void StateEditor::edit_masters(const ParameterInitializer& edit) {
  const torch::NoGradGuard no_grad;
  for (const auto& unit : units_.all()) {
    StateAccess& access = at_rest("edit_masters()");
    machinery_.mover().change_weights(*unit);
    access.edit_masters(*unit, all_parameters(*unit), [&](std::size_t i, auto& value) {
      edit(full_name(*unit, i), value);
      value = checked(*unit, i, value);
    });
  }
}

void StateEditor::load(Unit& unit, const std::vector<std::size_t>& parameters,
                       const std::vector<torch::Tensor>& masters) {
  const torch::NoGradGuard no_grad;
  StateAccess& access = at_rest("load_state_dict()");
  machinery_.mover().change_weights(unit);
  access.edit_masters(unit, parameters,
                      [&](std::size_t i, torch::Tensor& value) { value.copy_(masters[i]); });
}

void StateEditor::visit_gradients(const ParameterVisitor& visit, double unscale) {
  StateAccess& access = at_rest("visit_gradients()");
  for (const auto& unit : units_.all()) {
    access.read_gradients(*unit, [&](std::size_t i, torch::Tensor& value) {
      if (unscale != 1.0) value.mul_(unscale);
      visit(full_name(*unit, i), value);
    });
  }
}

// ---- in use ------------------------------------------------------------------------------------

void StateEditor::with_unsharded(Unit& unit, const std::function<void()>& visit) {
  machinery_.prepare();
  refuse_inside_visitor("with_unsharded()");
  const torch::NoGradGuard no_grad;
  if (unit.visit != nullptr) take_over_changes(unit);
  const UnshardedScope scope(machinery_.mover(), unit);
  const VisitScope record(unit);
  try {
    visit();
  } catch (...) {
    take_back_changes(unit);
    throw;
  }
  take_over_changes(unit);
}

void StateEditor::take_over_changes(Unit& unit) {
  const std::vector<std::size_t> changed = unit.visit->changed();
  if (changed.empty()) return;
  std::vector<torch::Tensor> masters(unit.parameters().size());
  std::vector<bool> whole(unit.parameters().size());  // all of its elements are new
  try {
    for (const std::size_t i : changed) {
      if (!unit.is_in_place(i)) check_bytes(full_name(unit, i), unit.parameters()[i]);
      masters[i] = checked(unit, i, unit.parameters()[i]).clone();
      whole[i] =
          unit.parameters()[i].scalar_type() != scalar_type(unit.vector_of(i).format.precision);
    }
  } catch (...) {
    take_back_changes(unit);
    throw;
  }
  for (const std::size_t i : changed) {
    if (!unit.is_in_place(i)) unit.put_in_place(i);
    unit.visit->restore(i);  // values that differ from it are new
  }
  release_staging();
  const torch::NoGradGuard no_grad;
  StateAccess& access = machinery_.states();
  for (const std::size_t i : changed) {
    const torch::Tensor before = whole[i] ? torch::Tensor() : access.weights(unit, i);
    access.edit_masters(unit, {i}, [&](std::size_t, torch::Tensor& master) {
      if (!whole[i]) masters[i] = torch::where(masters[i] == before, master, masters[i]);
      master.copy_(masters[i]);
    });
    refresh_region(unit, i, masters[i]);
  }
  unit.weights_changed();
  *unit.visit = ParameterRecord(unit);
}

void StateEditor::take_back_changes(Unit& unit) {
  for (const std::size_t i : unit.visit->changed()) {
    if (!unit.is_in_place(i)) unit.put_in_place(i);
    unit.visit->restore(i);
    unit.spoiled = true;
  }
}

}  // namespace strata::zero3
