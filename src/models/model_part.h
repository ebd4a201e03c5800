#pragma once

#include <optional>
#include <string>
#include <utility>

#include "models/rounding.h"
#include "strata/base/number_format.h"
#include "strata/models/causal_lm.h"
#include "strata/models/lora_config.h"
#include "strata/zero3/engine.h"

namespace strata::models {

/// Freezes a module's parameters, or all of them but adapters.
inline void freeze(torch::nn::Module& module, bool adapters_too) {
  for (auto& parameter : module.named_parameters()) {
    if (adapters_too || !is_adapter_parameter(parameter.key())) {
      parameter.value().set_requires_grad(false);
    }
  }
}

/// The engine of a model, and what its parameters are for there.
struct EngineHome {
  Engine& engine;
  ParameterUse use;
  bool trains_adapters_alone = false;

  /// The module as it is made a unit.
  template <class Module>
  [[nodiscard]] Module prepared(Module module) const {
    const bool is_read = use == ParameterUse::kRead;
    if (is_read || trains_adapters_alone) freeze(*module, /*adapters_too=*/is_read);
    return module;
  }
};

/// A module that is a unit of an engine, or stands in memory on its own: entered the same way.
template <class Module>
class ModelPart {
 public:
  /// Makes it in an engine. `module` is on the meta device.
  ModelPart(std::string name, Module module, const EngineHome& home,
            const ParameterInitializer& initialize)
      : name_(name),
        module_(module),
        sharded_(home.engine.shard(home.prepared(std::move(module)),
                                   {.name = std::move(name), .initializer = initialize})) {}

  /// Makes it in memory. `module` is on the CPU, in the compute format of `precision`.
  ModelPart(std::string name, Module module, Precision precision,
            const ParameterInitializer& initialize)
      : name_(std::move(name)), module_(std::move(module)) {
    torch::NoGradGuard no_grad;
    for (const auto& item : module_->named_parameters()) {
      torch::Tensor master = torch::empty(item.value().sizes(), torch::kFloat32);
      initialize(full_name(item.key()), master);
      item.value().copy_(rounded_weight(master, precision));
    }
  }

  /// Runs function(module, tensors...) with the parameters at hand.
  template <class Function, class... Tensors>
  auto run(Function function, Recompute recompute, const Tensors&... tensors) {
    auto body = [module = module_.ptr(), function = std::move(function)](const auto&... inputs) {
      return function(*module, inputs...);
    };
    return sharded_ ? sharded_->run(std::move(body), recompute, tensors...) : body(tensors...);
  }

  /// Appends this part of a model in an engine: function(module, x, micro_batch).
  template <class Function>
  void add_to(UnitSequence& sequence, Function function, Recompute recompute) const {
    sequence.add(sharded_.value(), std::move(function), recompute);
  }
  /// Appends it beside the part before it.
  template <class Function>
  void add_beside_to(UnitSequence& sequence, Function function, Recompute recompute) const {
    sequence.add_beside(sharded_.value(), std::move(function), recompute);
  }
  /// Appends the parts of `parts`, of which this is one, as a span with this one's rules.
  void add_span_to(UnitSequence& sequence, const UnitSequence& parts) const {
    sequence.add_span(parts, sharded_.value());
  }

  /// Calls visit(full name, parameter) for every parameter, while it can be read.
  template <class Visit>
  void visit_parameters(const Visit& visit) {
    const auto visit_all = [&] {
      for (const auto& item : module_->named_parameters()) {
        visit(full_name(item.key()), item.value());
      }
    };
    if (sharded_) {
      sharded_->with_unsharded(visit_all);
    } else {
      visit_all();
    }
  }

  /// The unit of one in an engine.
  [[nodiscard]] const zero3::UnitHandle& unit() const { return sharded_.value().unit(); }
  [[nodiscard]] auto& module() const { return *module_.ptr(); }
  [[nodiscard]] auto shared_module() const { return module_.ptr(); }

 private:
  [[nodiscard]] std::string full_name(const std::string& name) const { return name_ + "." + name; }

  std::string name_;
  Module module_;
  std::optional<Sharded<Module>> sharded_;
};

}  // namespace strata::models
