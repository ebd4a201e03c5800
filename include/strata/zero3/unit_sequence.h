#pragma once

#include <torch/torch.h>

#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

#include "strata/zero3/sharded.h"

namespace strata {

/// A model as a sequence of units, each of which takes what the one before it returned; the last
/// one returns the loss. Given to `Engine::train_batch`, which runs all micro-batches through one
/// unit before the next:
///
///     UnitSequence model;
///     model.add(embedding);  // the first one takes the micro-batch
///     for (auto& block : blocks) model.add(block);
///     model.add(head, [](HeadImpl& head, const Tensors& x, const Tensors& micro_batch) {
///       return torch::cross_entropy_loss(head.forward(x[0]), micro_batch[1]);
///     });
///
/// A unit may come several times (a tied head). It may enter other units inside of its own body.
/// Parts may stand side by side (add_beside), as tiles of one layer do. A copy names the same
/// units.
class UnitSequence {
 public:
  /// The tensors of a micro-batch, or those that one unit hands to the next.
  using Tensors = std::vector<torch::Tensor>;

  /// A use of a unit.
  struct Part {
    zero3::UnitHandle unit;
    std::function<Tensors(const Tensors& x, const Tensors& micro_batch)> run;
    bool has_unit = true;    ///< not a function alone
    bool is_beside = false;  ///< takes what the part before it took
  };

  /// Appends function(module, x, micro_batch), which returns a tensor or Tensors and uses the
  /// parameters of `unit`. `x` is what the part before returned; for the first part it is the
  /// micro-batch. Gradients flow through `x`; what `function` captures gets none.
  template <class Module, class Function>
  UnitSequence& add(Sharded<Module> unit, Function function,
                    Recompute recompute = Recompute::kConfig) {
    parts_.push_back(part_of(std::move(unit), std::move(function), recompute));
    return *this;
  }

  /// Appends a part that stands beside the one before it: it takes the same, and the next part
  /// takes what both returned, in their order. The gradient of what they take is the sum of theirs
  /// in fp32, the last one's first, rounded to its format once, as SharedInput has it. Throws
  /// UsageError where no part is before it.
  template <class Module, class Function>
  UnitSequence& add_beside(Sharded<Module> unit, Function function,
                           Recompute recompute = Recompute::kConfig) {
    if (parts_.empty()) {
      throw UsageError("the first part of a sequence of units stands beside none; add() it");
    }
    parts_.push_back(part_of(std::move(unit), std::move(function), recompute));
    parts_.back().is_beside = true;
    return *this;
  }

  /// Appends function(x, micro_batch) without parameters, which runs outside of units: a loss, say.
  template <class Function>
  UnitSequence& add_function(Function function) {
    parts_.push_back(
        {.unit = {},
         .run = [function = std::move(function)](
                    const Tensors& x,
                    const Tensors& micro_batch) { return as_list(function(x, micro_batch)); },
         .has_unit = false});
    return *this;
  }

  /// Appends the module's own forward, of one tensor.
  template <class Module>
  UnitSequence& add(Sharded<Module> unit) {
    return add(std::move(unit), [](auto& module, const Tensors& x, const Tensors& /*micro_batch*/) {
      return module.forward(x.at(0));
    });
  }

  [[nodiscard]] const std::vector<Part>& parts() const noexcept { return parts_; }

 private:
  template <class Module, class Function>
  static Part part_of(Sharded<Module> unit, Function function, Recompute recompute) {
    zero3::UnitHandle handle = unit.unit();
    auto body = [module = unit.module(), function = std::move(function)](
                    const Tensors& x, const Tensors& micro_batch) mutable {
      return as_list(function(*module, x, micro_batch));
    };
    return {.unit = std::move(handle),
            .run = [unit = std::move(unit), body = std::move(body), recompute](
                       const Tensors& x, const Tensors& micro_batch) {
              return Sharded<Module>(unit).run(body, recompute, x, micro_batch);
            }};
  }

  static Tensors as_list(Tensors tensors) { return tensors; }
  static Tensors as_list(torch::Tensor tensor) { return {std::move(tensor)}; }

  std::vector<Part> parts_;
};

}  // namespace strata
