#pragma once

#include <torch/torch.h>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "strata/zero3/sharding.h"
#include "zero3/machinery.h"
#include "zero3/unit.h"
#include "zero3/unit_registry.h"

namespace strata::zero3 {

/// How what units hold is read and changed from outside: masters, gradients, and parameters that a
/// visitor writes to. Every member function throws UsageError inside a visitor of masters or
/// gradients, and where it works on states at rest, while a unit is in use; what StateAccess
/// throws. Thread: the engine's.
class StateEditor {
 public:
  StateEditor(UnitRegistry& units, Machinery& machinery) : units_(units), machinery_(machinery) {}

  // ---- of all units ----
  /// As Engine's, which throw the same.
  void visit_masters(const ParameterVisitor& visit);
  void edit_masters(const ParameterInitializer& edit);
  /// Gradients times `unscale`.
  void visit_gradients(const ParameterVisitor& visit, double unscale);

  // ---- of one unit ----
  /// As Sharded's, which throw the same.
  void with_unsharded(Unit& unit, const std::function<void()>& visit);
  void visit_masters(Unit& unit, const ParameterVisitor& visit);
  /// Gives the parameters of these indices the values of `masters`, which has one for each
  /// parameter, as `checked` left them.
  void load(Unit& unit, const std::vector<std::size_t>& parameters,
            const std::vector<torch::Tensor>& masters);
  /// `values` as masters of a parameter. Throws as checked_masters (parameter_values.h).
  [[nodiscard]] static torch::Tensor checked(const Unit& unit, std::size_t parameter,
                                             const torch::Tensor& values);

  // ---- for entries ----
  /// `what` needs the buffers that a visitor of states is looking at.
  void refuse_inside_visitor(const std::string& what) const;
  /// Makes what a visitor of `unit`, in use, has changed so far its parameters. Throws as
  /// with_unsharded, and takes it back then.
  void take_over_changes(Unit& unit);

 private:
  /// The states of units at rest. `what` asks for them.
  [[nodiscard]] StateAccess& at_rest(const std::string& what);
  void release_staging();
  void take_back_changes(Unit& unit);

  UnitRegistry& units_;
  Machinery& machinery_;
};

}  // namespace strata::zero3
