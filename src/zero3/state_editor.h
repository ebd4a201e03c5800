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

/// Reads and changes the states of units from outside: masters, gradients, and parameters that a
/// visitor writes to. Member functions that move states throw what StateAccess throws, and
/// UsageError inside a visitor of masters or gradients; all but with_unsharded and
/// take_over_changes work on states at rest, and throw UsageError while a unit is in use. Thread:
/// the engine's.
class StateEditor {
 public:
  StateEditor(UnitRegistry& units, Machinery& machinery) : units_(units), machinery_(machinery) {}
  StateEditor(const StateEditor&) = delete;
  StateEditor& operator=(const StateEditor&) = delete;

  // ---- of all units ----
  /// Do what Engine's members do, and throw the same.
  void visit_masters(const ParameterVisitor& visit);
  void edit_masters(const ParameterInitializer& edit);
  /// Show gradients times `unscale`.
  void visit_gradients(const ParameterVisitor& visit, double unscale);

  // ---- of one unit ----
  /// Do what Sharded's members do, and throw the same.
  void with_unsharded(Unit& unit, const std::function<void()>& visit);
  void visit_masters(Unit& unit, const ParameterVisitor& visit);
  /// Gives the parameters of these indices the values of `masters`, which has one for each
  /// parameter, from `checked`.
  void load(Unit& unit, const std::vector<std::size_t>& parameters,
            const std::vector<torch::Tensor>& masters);
  /// `values` as masters of a parameter. Throws what checked_masters (parameter_values.h) throws.
  [[nodiscard]] static torch::Tensor checked(const Unit& unit, std::size_t parameter,
                                             const torch::Tensor& values);

  /// The access to states at rest, for what moves them as they are: no unit is in use, no step goes
  /// on, the staging slots are free. `what` asks for it. Throws UsageError while that cannot be.
  [[nodiscard]] StateAccess& at_rest(const std::string& what);

  // ---- for entries ----
  /// Throws UsageError inside a visitor of states: `what` needs the buffers that it looks at.
  void refuse_inside_visitor(const std::string& what) const;
  /// Makes the changes so far of a visitor of `unit`, in use, its parameters. Throws what
  /// with_unsharded throws, and undoes them then.
  void take_over_changes(Unit& unit);

 private:
  void release_staging();
  void take_back_changes(Unit& unit);

  UnitRegistry& units_;
  Machinery& machinery_;
};

}  // namespace strata::zero3
