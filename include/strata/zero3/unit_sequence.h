#pragma once

#include <torch/torch.h>

#include <cstddef>
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
/// Parts may stand side by side (add_beside), as tiles of one layer do. Several parts may be a span
/// (add_span), of which only the input is kept until backward, as of a block. A copy names the same
/// units.
class UnitSequence {
 public:
  /// The tensors of a micro-batch, or those that one unit hands to the next.
  using Tensors = std::vector<torch::Tensor>;

  /// A use of a unit.
  struct Part {
    zero3::UnitHandle unit;
    std::function<Tensors(const Tensors& x, const Tensors& micro_batch)> run;
    /// Of what all micro-batches go through at once; empty: one at a time. No unit.
    std::function<std::vector<Tensors>(const std::vector<Tensors>& of_each)> run_together = {};
    bool has_unit = true;    ///< not a function alone
    bool is_beside = false;  ///< takes what the part before it took
  };

  /// Parts, from `begin` to before `end`, that are run again together.
  struct Span {
    zero3::UnitHandle unit;
    Recompute recompute = Recompute::kConfig;
    std::size_t begin = 0, end = 0;
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

  /// Appends function(x of each micro-batch) without parameters, which returns what each gets. In
  /// Engine::train_batch it is called once for all micro-batches, elsewhere for one at a time, so
  /// that units that it enters, which may be others for each micro-batch (experts), come once for
  /// all of them. Their numbers are those of one micro-batch after the other up to roundings.
  template <class Function>
  UnitSequence& add_together(Function function) {
    parts_.push_back(
        {.unit = {},
         .run = [function](const Tensors& x,
                           const Tensors& /*micro_batch*/) { return function({x}).at(0); },
         .run_together = function,
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

  /// Appends the parts of another sequence, the last of which stands alone, as a span: backward
  /// keeps nothing of them but what the first one takes, and runs them forward again, with the same
  /// random numbers, before it comes through them. Whether it does is `recompute`'s to say, and
  /// where that leaves it open what `unit`, one of the units of the parts, was given
  /// (ShardOptions::recompute, strata.recompute). What the parts themselves keep or recompute is
  /// theirs to say: Recompute::kNever, as a rule, since it is kept for the length of their backward
  /// alone. In Engine::train_batch all micro-batches go through each part both times, so its
  /// weights come three times a step, and what the parts keep is there of all micro-batches, of one
  /// span at a time; a span at the very end of a model is not run again. Outputs are defined
  /// tensors, and all with floating numbers count as trained; buffers are not put back, but for
  /// `unit`'s. UsageError for parts with spans of their own, without any, or whose last one is
  /// beside another.
  template <class Module>
  UnitSequence& add_span(const UnitSequence& parts, const Sharded<Module>& unit,
                         Recompute recompute = Recompute::kConfig) {
    append_span(parts, unit.unit(), recompute);
    return *this;
  }

  /// Runs it in the ordinary loop, one part after the other, and returns what the last one returns:
  /// the numbers of Engine::train_batch. `x` is what the first part takes. The gradient of what
  /// parts side by side take is added as SharedInput adds it.
  [[nodiscard]] Tensors run(const Tensors& x, const Tensors& micro_batch = {}) const;

  [[nodiscard]] const std::vector<Part>& parts() const noexcept { return parts_; }
  /// In order.
  [[nodiscard]] const std::vector<Span>& spans() const noexcept { return spans_; }

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

  void append_span(const UnitSequence& parts, zero3::UnitHandle unit, Recompute recompute);

  static Tensors as_list(Tensors tensors) { return tensors; }
  static Tensors as_list(torch::Tensor tensor) { return {std::move(tensor)}; }

  std::vector<Part> parts_;
  std::vector<Span> spans_;
};

}  // namespace strata
