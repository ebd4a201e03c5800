#pragma once

#include <torch/torch.h>

#include <functional>
#include <type_traits>
#include <utility>

#include "strata/zero3/engine.h"

namespace strata {

/// Whether a unit's forward is run again in backward instead of keeping its activations.
enum class Recompute {
  kConfig,  ///< as the config's "strata": {"recompute": ...} says
  kNever,   ///< for the last part of forward, whose backward comes at once
};

namespace zero3 {

/// The body of one entry: computes outputs from inputs with the unit's parameters.
using EntryBody =
    std::function<torch::autograd::variable_list(const torch::autograd::variable_list&)>;

/// Enters a unit: unshards it, runs `body`, reshards it. With gradients enabled, backward unshards
/// it again, recomputes where asked (with the random state of the first time), and hands the
/// parameters' gradients to the reduce hop. `inputs` are all tensors that gradients can flow into;
/// what `body` captures is kept until backward and must not require gradients.
[[nodiscard]] torch::autograd::variable_list enter(Unit& unit, EntryBody body,
                                                   torch::autograd::variable_list inputs,
                                                   Recompute recompute);

/// Runs `visit` while the unit's parameters can be read (not written) as ordinary tensors.
void with_unsharded(Unit& unit, const std::function<void()>& visit);

}  // namespace zero3

/// A module whose parameters the engine holds; called as the module was called before.
///
/// `Module` is a LibTorch module holder (TORCH_MODULE). Copies name the same unit. Must not be used
/// after the engine is gone.
template <class Module>
class Sharded {
 public:
  Sharded(Module module, zero3::Unit& unit) : module_(std::move(module)), unit_(&unit) {}

  /// module->forward(arguments...). Tensor arguments may require gradients; everything else is
  /// captured.
  template <class... Arguments>
  torch::Tensor operator()(Arguments... arguments) {
    return run([module = module_](auto&... a) mutable { return module->forward(a...); },
               Recompute::kConfig, std::move(arguments)...);
  }

  /// Runs any function of tensors that uses this unit's parameters, e.g. the tied output head of an
  /// embedding: `embedding.run([&](auto& x) { return embedding->logits(x); }, Recompute::kNever,
  /// x)`.
  template <class Function, class... Tensors>
  torch::Tensor run(Function function, Recompute recompute, Tensors... tensors) {
    static_assert((std::is_same_v<Tensors, torch::Tensor> && ...),
                  "a unit's inputs are torch::Tensor; capture everything else");
    auto body = [function =
                     std::move(function)](const torch::autograd::variable_list& inputs) mutable
        -> torch::autograd::variable_list {
      return [&]<std::size_t... I>(std::index_sequence<I...>) {
        return torch::autograd::variable_list{function(inputs[I]...)};
      }
      (std::index_sequence_for<Tensors...>{});
    };
    return zero3::enter(*unit_, std::move(body), {std::move(tensors)...}, recompute)[0];
  }

  /// Runs `visit` while the parameters can be read as ordinary tensors (to export or to look at
  /// them).
  void with_unsharded(const std::function<void()>& visit) { zero3::with_unsharded(*unit_, visit); }

  /// The module itself: its options, its submodules. Its parameters have no data outside of a run.
  [[nodiscard]] auto* operator->() const { return module_.get(); }
  [[nodiscard]] const Module& module() const { return module_; }
  [[nodiscard]] zero3::Unit& unit() const { return *unit_; }

 private:
  Module module_;
  zero3::Unit* unit_;
};

template <class Module>
Sharded<Module> Engine::shard(Module module, ShardOptions options) {
  zero3::Unit& unit = make_unit(*module, std::move(options));
  return Sharded<Module>(std::move(module), unit);
}

}  // namespace strata
