#pragma once

#include <torch/torch.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "strata/base/error.h"
#include "strata/zero3/sharding.h"
#include "strata/zero3/tensor_tree.h"

namespace strata {

namespace zero3 {

/// The body of one entry: computes outputs from inputs with the unit's parameters.
using EntryBody =
    std::function<torch::autograd::variable_list(const torch::autograd::variable_list&)>;

/// Enters a unit: unshards it, runs `body`, reshards it. With gradients enabled, backward unshards
/// it again, recomputes where asked (with the random state of the first time), and hands the
/// parameters' gradients to the reduce hop. `inputs` are all tensors that gradients can flow into;
/// tensors that `body` captures are kept until backward and must not require gradients. Undefined
/// tensors pass in both directions.
[[nodiscard]] torch::autograd::variable_list enter(const UnitHandle& unit, EntryBody body,
                                                   torch::autograd::variable_list inputs,
                                                   Recompute recompute);

/// The unit of a handle. Throws UsageError when there is none any more.
[[nodiscard]] std::shared_ptr<Unit> unit_of(const UnitHandle& unit);

void with_unsharded(const UnitHandle& unit, const std::function<void()>& visit);
void visit_masters(const UnitHandle& unit, const ParameterVisitor& visit);
[[nodiscard]] torch::OrderedDict<std::string, torch::Tensor> state_dict(const UnitHandle& unit);
void load_state_dict(const UnitHandle& unit,
                     const torch::OrderedDict<std::string, torch::Tensor>& state, bool strict);

}  // namespace zero3

/// A module whose parameters the engine holds; called as the module was called before.
///
/// `Module` is a LibTorch module holder (TORCH_MODULE) or a shared_ptr to a module. Copies name the
/// same unit. One made without arguments is empty until another is assigned to it. Calls throw
/// UsageError when it is empty or its engine is gone. docs/api.md lists what a module may not do
/// when it is called; all of it is refused by name.
template <class Module>
class Sharded {
 public:
  Sharded() = default;
  Sharded(Module module, zero3::UnitHandle unit)
      : module_(std::move(module)), unit_(std::move(unit)) {}

  /// Runs module->forward(arguments...) and returns its result. Every tensor in the arguments and
  /// in the result (tensor_tree.h) may require a gradient; everything else is captured, by value.
  template <class... Arguments>
  auto operator()(Arguments... arguments) {
    check();
    return run([module = module_](auto&... a) mutable { return module->forward(a...); },
               Recompute::kConfig, std::move(arguments)...);
  }

  /// Runs any function that uses this unit's parameters, e.g. the tied output head of an embedding:
  /// `embedding.run([&](auto& x) { return embedding->logits(x); }, Recompute::kNever, x)`.
  template <class Function, class... Arguments>
  auto run(Function function, Recompute recompute, Arguments... arguments) {
    using Result = std::decay_t<std::invoke_result_t<Function&, Arguments&...>>;
    static_assert(TensorTree<Result>::kHasTensors,
                  "a unit returns a tensor, or a type with tensors that tensor_tree.h knows");
    using Call = Body<Function, Result, Arguments...>;
    auto call = std::make_shared<Call>(
        Call{std::move(function), std::tuple<Arguments...>(std::move(arguments)...), {}});
    torch::autograd::variable_list inputs = take_tensors(call->arguments);
    const auto outputs = zero3::enter(
        unit_, [call](const auto& tensors) { return call->run(tensors); }, std::move(inputs),
        recompute);
    Result result = std::move(call->result.value());
    put_tensors(result, outputs);
    return result;
  }

  /// Runs `visit` while the parameters can be read and written as ordinary tensors. Values that it
  /// changes (copy_, data(), accessors, torch::load, set_data with the same shape) are the
  /// parameter from then on, and its fp32 master changes where they differ; moments and step counts
  /// stay. A forward inside `visit` runs with the changes so far. Tensors that share memory with a
  /// parameter must not be kept: reading one later throws. Throws UsageError for a new shape or a
  /// type that fp32 cannot hold, DataError for values that are not finite or that the format cannot
  /// hold. Nothing is changed when it or `visit` throws.
  void with_unsharded(const std::function<void()>& visit) { zero3::with_unsharded(unit_, visit); }

  /// Calls visit(name within the module, fp32 master on the CPU) for every parameter, one after the
  /// other: one is in memory at a time, valid during the call. Serves averages of weights, say.
  void visit_masters(const ParameterVisitor& visit) { zero3::visit_masters(unit_, visit); }

  /// The fp32 masters and the buffers by their names within the module, all at once in memory.
  [[nodiscard]] torch::OrderedDict<std::string, torch::Tensor> state_dict() const {
    return zero3::state_dict(unit_);
  }
  /// Sets masters and buffers to `state`. `strict`: every parameter and buffer is there, and
  /// nothing else. Throws UsageError and DataError as with_unsharded does; nothing is changed then.
  void load_state_dict(const torch::OrderedDict<std::string, torch::Tensor>& state,
                       bool strict = true) {
    zero3::load_state_dict(unit_, state, strict);
  }

  /// Whether it names a unit of an engine that still exists.
  [[nodiscard]] explicit operator bool() const { return !unit_.expired(); }
  /// The module itself: its options, its submodules, train() and eval(). Its parameters have no
  /// data outside of a run.
  [[nodiscard]] auto* operator->() const {
    check();
    if constexpr (requires { module_.ptr(); }) {
      return module_.ptr().get();
    } else {
      return module_.get();
    }
  }
  [[nodiscard]] const Module& module() const { return module_; }
  [[nodiscard]] const zero3::UnitHandle& unit() const noexcept { return unit_; }

 private:
  /// A function with its arguments and its result, without their tensors.
  template <class Function, class Result, class... Arguments>
  struct Body {
    Function function;
    std::tuple<Arguments...> arguments;
    std::optional<Result> result;

    torch::autograd::variable_list run(const torch::autograd::variable_list& tensors) {
      std::tuple<Arguments...> filled = arguments;
      put_tensors(filled, tensors);
      Result returned = std::apply(function, filled);
      torch::autograd::variable_list outputs = take_tensors(returned);
      result.emplace(std::move(returned));
      return outputs;
    }
  };

  void check() const {
    if (!module_) throw UsageError("an empty Sharded was used; give it what shard() returns");
  }

  Module module_{nullptr};
  zero3::UnitHandle unit_;
};

}  // namespace strata
