#pragma once

#include <torch/torch.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

/// \file
/// The vocabulary for giving modules to an engine, and for looking at them afterwards.

namespace strata {

namespace zero3 {
class Unit;
/// Names a unit for as long as its engine exists.
using UnitHandle = std::weak_ptr<Unit>;
}  // namespace zero3

/// Whether a unit's forward is run again in backward instead of keeping its activations.
enum class Recompute {
  kConfig,  ///< ShardOptions::recompute decides or, where that is kConfig too, the config's
            ///< "strata": {"recompute": ...}
  kNever,   ///< for the last part of forward, whose backward comes at once, and for bodies that
            ///< cannot be run twice
  kAlways,
};

/// Fills one parameter of a unit: `value` is an fp32 tensor of the parameter's shape on the CPU.
/// For edit_masters it holds the parameter's value.
using ParameterInitializer = std::function<void(const std::string& name, torch::Tensor& value)>;

/// A function that is shown one tensor after the other, each valid during the call.
using ParameterVisitor = std::function<void(const std::string& name, const torch::Tensor& value)>;

/// How a module becomes a unit.
struct ShardOptions {
  /// Prefix of the full names of its parameters in checkpoints ("transformer.h.3"); each unit has
  /// its own. Empty: none, or "unit.<number>" where that would give two parameters one name.
  std::string name = {};
  /// Source of the initial values, in registration order. Empty: the module's own tensors. Needed
  /// when those are on the meta device: that way a model larger than memory is built, parameter by
  /// parameter. A RangedInitializer (ranged_initializer.h) is asked for blocks, on all cores.
  ParameterInitializer initializer = {};
  /// Applies to entries that do not say otherwise.
  Recompute recompute = Recompute::kConfig;
  /// Random generators other than LibTorch's own that the module draws from: recomputation draws
  /// the same numbers from them.
  std::vector<at::Generator> generators = {};
};

}  // namespace strata
