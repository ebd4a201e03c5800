#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "strata/base/counters.h"
#include "strata/base/log.h"
#include "strata/formats/ds_config.h"
#include "strata/zero3/plan.h"
#include "strata/zero3/unit_layout.h"

namespace strata {

namespace zero3 {
class Unit;
}
template <class Module>
class Sharded;

/// Fills one parameter of a unit: `value` is an fp32 tensor of the parameter's shape on the CPU.
using ParameterInitializer = std::function<void(const std::string& name, torch::Tensor& value)>;

/// How a module becomes a unit.
struct ShardOptions {
  /// Prefix of the full names of its parameters in checkpoints ("transformer.h.3").
  std::string name = {};
  /// Where the initial values come from. Empty: from the module's own tensors. Needed when those
  /// are on the meta device, which is how a model larger than memory is built: parameter by
  /// parameter.
  ParameterInitializer initializer = {};
};

/// What a call of `Engine::step` did.
struct StepReport {
  bool updated =
      false;  ///< parameters changed; false between accumulation boundaries and on overflow
  bool overflow = false;   ///< a gradient was Inf or NaN: nothing was changed
  std::int64_t step = 0;   ///< optimizer steps taken so far
  double lr = 0.0;         ///< of this step
  double grad_norm = 0.0;  ///< global L2 norm before clipping
  double loss_scale = 1.0;
};

/// A tier's bytes: held now, held at most so far, and allowed.
struct TierUse {
  std::uint64_t used = 0, peak = 0, budget = 0;
};

/// The offload engine: owns the parameters, gradients and optimizer states of the modules given to
/// `shard`, keeps them in the tiers that the config names, and moves each byte to where it is
/// needed just before it is needed.
///
///     auto engine = strata::Engine::from_config("ds_config.json");
///     auto block  = engine.shard(Block(options));      // parameters now live in their tiers
///     auto loss   = loss_of(block(x));                  // fetched, used, released
///     engine.backward(loss);                            // gradients go straight to their home
///     engine.step();                                    // at accumulation boundaries: clip, Adam,
///     write back
///
/// Memory: everything is taken when it is set up (`shard`, and `prepare` or the first forward);
/// later steps take nothing more. Peak bytes per tier equal `plan().total`. Thread: all methods and
/// all forwards of sharded modules from one thread. Move-only; modules made by `shard` must not
/// outlive it. Errors: ConfigError, BudgetError, IoError, CorruptData, UsageError (see
/// base/error.h). After IoError or CorruptData from forward, backward or step the states are
/// undefined: make a new engine.
class Engine {
 public:
  /// Reads DeepSpeed's JSON. Warnings and choices (I/O backend, keys without effect) go to `log`,
  /// which must outlive the engine; null: stderr.
  [[nodiscard]] static Engine from_config(const std::filesystem::path& ds_config,
                                          Logger* log = nullptr);
  explicit Engine(formats::DsConfig config, Logger* log = nullptr);
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;
  ~Engine();

  /// Makes `module` a unit. Its parameters' values are moved to their home and their memory is
  /// released; while the unit is not in use a parameter has no data (LibTorch throws when it is
  /// read). Buffers stay as they are. Parameters whose requires_grad is false are frozen: no
  /// gradient, no optimizer state. Units are best made in the order in which forward uses them.
  /// Throws UsageError after the first forward, or for a parameter that belongs to another unit
  /// already (a tied weight belongs to one unit, whose `run` is called twice).
  template <class Module>
  [[nodiscard]] Sharded<Module> shard(Module module, ShardOptions options = {});

  /// Makes the plan and takes all memory. Called by the first forward when it has not been called
  /// before. Throws BudgetError with the smallest budget that works.
  void prepare();

  /// Computes the gradients of `loss` (divided by the accumulation steps, times the loss scale) and
  /// adds them to their homes. `loss` is a scalar that depends on sharded modules.
  void backward(const torch::Tensor& loss);

  /// Call after every `backward`. At an accumulation boundary: global norm, clipping, Adam,
  /// write-back.
  StepReport step();

  [[nodiscard]] const formats::DsConfig& config() const;
  /// Known after `prepare`.
  [[nodiscard]] const zero3::Plan& plan() const;
  [[nodiscard]] TierUse use(tiering::Tier tier) const;
  [[nodiscard]] CounterReading counters() const;
  /// The I/O backend in use and why ("io_uring"), or "none".
  [[nodiscard]] std::string io_description() const;
  /// What plans are made from; complete once the last unit is made.
  [[nodiscard]] const zero3::PlanInput& plan_input() const;

  /// A plan's fixed inputs, from a config alone: `units` is left empty. For planning before
  /// building.
  [[nodiscard]] static zero3::PlanInput plan_input_from(const formats::DsConfig& config);

  struct Impl;

 private:
  zero3::Unit& make_unit(torch::nn::Module& module, ShardOptions options);
  std::unique_ptr<Impl> impl_;
};

}  // namespace strata

#include "strata/zero3/sharded.h"
