#include "strata/zero3/sharded.h"

#include <ATen/MemoryOverlap.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "zero3/state_editor.h"
#include "zero3/unit.h"

/// \file
/// The members of a sharded module beside its forward, which is in unit_function.cpp.

namespace strata::zero3 {

namespace {

using StateDict = torch::OrderedDict<std::string, torch::Tensor>;

/// Looks up the tensors of a unit in a state.
class StateLookup {
 public:
  StateLookup(const Unit& unit, const StateDict& state, bool strict)
      : unit_(unit), state_(state), strict_(strict) {}

  /// The tensor of a name; null if there is none, which `strict` does not allow.
  const torch::Tensor* find(const std::string& name) {
    const torch::Tensor* const value = state_.find(name);
    found_ += value != nullptr ? 1 : 0;
    if (value == nullptr && strict_) {
      throw UsageError("load_state_dict: unit '" + unit_.name() + "' has a '" + name +
                       "', and the state has none; pass strict = false to leave it as it is");
    }
    return value;
  }

  /// Throws UsageError, when `strict`, for tensors that were not looked up.
  void refuse_others() const {
    if (!strict_ || found_ == state_.size()) return;
    for (const auto& item : state_) {
      const auto is_it = [&](const auto& known) { return known.name == item.key(); };
      const auto& layouts = unit_.layout().parameters;
      if (std::any_of(layouts.begin(), layouts.end(), is_it) ||
          std::any_of(unit_.buffers().begin(), unit_.buffers().end(), is_it)) {
        continue;
      }
      throw UsageError("load_state_dict: unit '" + unit_.name() + "' has no '" + item.key() +
                       "'; pass strict = false to leave it out");
    }
  }

 private:
  const Unit& unit_;
  const StateDict& state_;
  bool strict_;
  std::size_t found_ = 0;
};

void check_buffer(const Unit& unit, const NamedTensor& buffer, const torch::Tensor& value) {
  if (value.defined() && value.sizes() == buffer.tensor.sizes() &&
      at::has_internal_overlap(buffer.tensor) != at::MemOverlap::Yes) {
    return;
  }
  throw UsageError("load_state_dict: buffer '" + buffer.name + "' of unit '" + unit.name() +
                   "' cannot take the state's value: it has another shape, or its elements "
                   "share memory (clone() an expanded buffer)");
}

}  // namespace

std::shared_ptr<Unit> unit_of(const UnitHandle& handle) {
  std::shared_ptr<Unit> unit = handle.lock();
  if (!unit) {
    throw UsageError(
        "a sharded module was used that has no unit: it was made by no shard(), or its engine is "
        "gone; an engine outlives the modules it shards and the losses made with them");
  }
  return unit;
}

void with_unsharded(const UnitHandle& handle, const std::function<void()>& visit) {
  const std::shared_ptr<Unit> unit = unit_of(handle);
  unit->editor().with_unsharded(*unit, visit);
}

void visit_masters(const UnitHandle& handle, const ParameterVisitor& visit) {
  const std::shared_ptr<Unit> unit = unit_of(handle);
  unit->editor().visit_masters(*unit, visit);
}

StateDict state_dict(const UnitHandle& handle) {
  const std::shared_ptr<Unit> unit = unit_of(handle);
  StateDict state;
  unit->editor().visit_masters(*unit, [&](const std::string& name, const torch::Tensor& value) {
    state.insert(name, value);
  });
  for (const NamedTensor& buffer : unit->buffers()) {
    state.insert(buffer.name, buffer.tensor.detach().clone());
  }
  return state;
}

void load_state_dict(const UnitHandle& handle, const StateDict& state, bool strict) {
  const std::shared_ptr<Unit> unit = unit_of(handle);
  StateLookup lookup(*unit, state, strict);
  std::vector<std::size_t> given;
  std::vector<torch::Tensor> masters(unit->parameters().size());
  for (std::size_t i = 0; i < masters.size(); ++i) {
    const torch::Tensor* const value = lookup.find(unit->layout().parameters[i].name);
    if (value == nullptr) continue;
    masters[i] = StateEditor::checked(*unit, i, *value);
    given.push_back(i);
  }
  std::vector<std::pair<torch::Tensor, torch::Tensor>> buffers;
  for (const NamedTensor& buffer : unit->buffers()) {
    const torch::Tensor* const value = lookup.find(buffer.name);
    if (value == nullptr) continue;
    check_buffer(*unit, buffer, *value);
    buffers.emplace_back(buffer.tensor, *value);
  }
  lookup.refuse_others();
  unit->editor().load(*unit, given, masters);
  const torch::NoGradGuard no_grad;
  for (const auto& [buffer, value] : buffers) buffer.copy_(value);
}

}  // namespace strata::zero3
