#include <ATen/MemoryOverlap.h>

#include <algorithm>
#include <utility>

#include "strata/base/error.h"
#include "strata/optim_cpu/convert.h"
#include "strata/zero3/sharded.h"
#include "zero3/engine_impl.h"
#include "zero3/parameter_record.h"
#include "zero3/parameter_values.h"

/// \file
/// How what an engine holds is read and changed from outside: masters, gradients, and parameters
/// that a visitor wrote to.

namespace strata {

namespace zero3 {
namespace {

std::string full_name(const Unit& unit, std::size_t parameter) {
  return unit.layout().full_name(unit.layout().parameters[parameter]);
}

std::vector<std::size_t> all_parameters(const Unit& unit) {
  std::vector<std::size_t> all(unit.parameters().size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  return all;
}

torch::Tensor masters_for(const Unit& unit, std::size_t parameter, const torch::Tensor& values) {
  return checked_masters(full_name(unit, parameter), unit.layout().parameters[parameter].shape,
                         values, unit.vector_of(parameter).format.precision);
}

/// Puts the compute weights of new masters where the unit in use reads them.
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

void visit_masters(const UnitHandle& handle, const ParameterVisitor& visit) {
  const std::shared_ptr<Unit> unit = unit_of(handle);
  unit->engine().states_at_rest("visit_masters()").read_masters(*unit, [&](std::size_t i, auto& v) {
    visit(unit->layout().parameters[i].name, v);
  });
}

torch::OrderedDict<std::string, torch::Tensor> state_dict(const UnitHandle& handle) {
  const std::shared_ptr<Unit> unit = unit_of(handle);
  torch::OrderedDict<std::string, torch::Tensor> state;
  visit_masters(handle, [&](const std::string& name, const torch::Tensor& value) {
    state.insert(name, value);
  });
  for (const NamedTensor& buffer : unit->buffers()) {
    state.insert(buffer.name, buffer.tensor.detach().clone());
  }
  return state;
}

void load_state_dict(const UnitHandle& handle,
                     const torch::OrderedDict<std::string, torch::Tensor>& state, bool strict) {
  const std::shared_ptr<Unit> unit = unit_of(handle);
  StateAccess& access = unit->engine().states_at_rest("load_state_dict()");
  std::size_t known = 0;
  const auto find = [&](const std::string& name) -> const torch::Tensor* {
    const torch::Tensor* const value = state.find(name);
    known += value != nullptr ? 1 : 0;
    if (value == nullptr && strict) {
      throw UsageError("load_state_dict: unit '" + unit->name() + "' has a '" + name +
                       "', and the state has none; pass strict = false to leave it as it is");
    }
    return value;
  };
  std::vector<std::size_t> given;
  std::vector<torch::Tensor> masters(unit->parameters().size());
  for (std::size_t i = 0; i < masters.size(); ++i) {
    const torch::Tensor* const value = find(unit->layout().parameters[i].name);
    if (value == nullptr) continue;
    masters[i] = masters_for(*unit, i, *value);
    given.push_back(i);
  }
  std::vector<std::pair<torch::Tensor, torch::Tensor>> buffers;
  for (const NamedTensor& buffer : unit->buffers()) {
    const torch::Tensor* const value = find(buffer.name);
    if (value == nullptr) continue;
    if (!value->defined() || value->sizes() != buffer.tensor.sizes() ||
        at::has_internal_overlap(buffer.tensor) == at::MemOverlap::Yes) {
      throw UsageError("load_state_dict: buffer '" + buffer.name + "' of unit '" + unit->name() +
                       "' cannot take the state's value: it has another shape, or its elements "
                       "share memory (clone() an expanded buffer)");
    }
    buffers.emplace_back(buffer.tensor, *value);
  }
  if (strict && known < state.size()) {
    for (const auto& item : state) {
      const auto& layouts = unit->layout().parameters;
      const auto is_it = [&](const auto& known_one) { return known_one.name == item.key(); };
      if (std::any_of(layouts.begin(), layouts.end(), is_it) ||
          std::any_of(unit->buffers().begin(), unit->buffers().end(), is_it)) {
        continue;
      }
      throw UsageError("load_state_dict: unit '" + unit->name() + "' has no '" + item.key() +
                       "'; pass strict = false to leave it out");
    }
  }
  const torch::NoGradGuard no_grad;
  unit->weights_changed();
  unit->engine().mover().change_weights(*unit);
  access.edit_masters(*unit, given,
                      [&](std::size_t i, torch::Tensor& value) { value.copy_(masters[i]); });
  for (const auto& [buffer, value] : buffers) buffer.copy_(value);
}

}  // namespace zero3

zero3::StateAccess& Engine::Impl::states_at_rest(const std::string& what) {
  prepare();
  refuse_in_use(what);
  refuse_inside_visitor(what);
  mover_->release_staging();
  if (gradients_) gradients_->settle();
  return *state_access_;
}

void Engine::Impl::visit_masters(const ParameterVisitor& visit) {
  for (const auto& unit : units_) {
    states_at_rest("visit_masters()").read_masters(*unit, [&](std::size_t i, auto& value) {
      visit(zero3::full_name(*unit, i), value);
    });
  }
}

void Engine::Impl::edit_masters(const ParameterInitializer& edit) {
  const torch::NoGradGuard no_grad;
  for (const auto& unit : units_) {
    zero3::StateAccess& access = states_at_rest("edit_masters()");
    unit->weights_changed();
    mover_->change_weights(*unit);
    access.edit_masters(*unit, zero3::all_parameters(*unit), [&](std::size_t i, auto& value) {
      edit(zero3::full_name(*unit, i), value);
      value = zero3::masters_for(*unit, i, value);
    });
  }
}

void Engine::Impl::visit_gradients(const ParameterVisitor& visit) {
  zero3::StateAccess& access = states_at_rest("visit_gradients()");
  const double unscale = this->unscale();
  for (const auto& unit : units_) {
    access.read_gradients(*unit, [&](std::size_t i, torch::Tensor& value) {
      if (unscale != 1.0) value.mul_(unscale);
      visit(zero3::full_name(*unit, i), value);
    });
  }
}

void Engine::Impl::refuse_inside_visitor(const std::string& what) const {
  if (!state_access_ || !state_access_->is_in_use()) return;
  throw UsageError(what +
                   " was called inside a visitor of masters or gradients, whose buffers it needs; "
                   "do one after the other");
}

void Engine::Impl::take_over_changes(zero3::Unit& unit) {
  const std::vector<std::size_t> changed = unit.visit->changed();
  if (changed.empty()) return;
  std::vector<torch::Tensor> masters(unit.parameters().size());
  std::vector<bool> whole(unit.parameters().size());  // all of its elements are new
  try {
    for (const std::size_t i : changed) {
      if (!unit.is_in_place(i)) {
        zero3::check_bytes(zero3::full_name(unit, i), unit.parameters()[i]);
      }
      masters[i] = zero3::masters_for(unit, i, unit.parameters()[i]).clone();
      whole[i] = unit.parameters()[i].scalar_type() !=
                 zero3::scalar_type(unit.vector_of(i).format.precision);
    }
  } catch (...) {
    take_back_changes(unit);
    throw;
  }
  for (const std::size_t i : changed) {
    if (!unit.is_in_place(i)) unit.put_in_place(i);
    unit.visit->restore(i);  // what differs from it is new
  }
  mover_->release_staging();
  if (gradients_) gradients_->settle();
  const torch::NoGradGuard no_grad;
  for (const std::size_t i : changed) {
    const torch::Tensor before = whole[i] ? torch::Tensor() : state_access_->weights(unit, i);
    state_access_->edit_masters(unit, {i}, [&](std::size_t, torch::Tensor& master) {
      if (!whole[i]) masters[i] = torch::where(masters[i] == before, master, masters[i]);
      master.copy_(masters[i]);
    });
    zero3::refresh_region(unit, i, masters[i]);
  }
  unit.weights_changed();
  *unit.visit = zero3::ParameterRecord(unit);
}

void Engine::Impl::take_back_changes(zero3::Unit& unit) {
  for (const std::size_t i : unit.visit->changed()) {
    if (!unit.is_in_place(i)) unit.put_in_place(i);
    unit.visit->restore(i);
    mover_->spoil(unit);
  }
}

}  // namespace strata
