#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "strata/optim_cpu/compute_threads.h"
#include "strata/optim_cpu/update.h"

/// \file
/// The optimizers for callers with memory of their own: no files, no modules, no tensors.
///
///     strata::optim_cpu::ComputeThreads threads;
///     const strata::optim::Adam adam({.lr = 3e-4, .weight_decay = 0.1},
///                                    strata::Precision::kBf16, threads);
///     std::vector<std::byte> weight(adam.bytes(strata::StateKind::kWeight, values.size()));
///     ...                               // master, m and v likewise
///     const strata::optim::States states{weight, master, m, v};
///     adam.initialize(values, states);  // fp32 values -> weight and master, zeros -> m and v
///     adam.step(1, states, gradient, strata::Precision::kBf16);  // on all threads; then 2, 3, ...

namespace strata::optim {

/// The states of one vector of parameters, in the caller's memory: `Optimizer::bytes` of each kind,
/// empty for one that is not kept. m and v start as zero bytes.
struct States {
  std::span<std::byte> weight, master, m, v;
};

/// One optimizer with its hyperparameters and formats. Holds no parameters.
class Optimizer {
 public:
  /// `format`'s has_m and has_v are set by the optimizer. `threads` must outlive it. Throws
  /// ConfigError for hyperparameters out of range (`check`), and for k24Bit without kBf16.
  Optimizer(const OptimizerOptions& options, StateFormat format,
            optim_cpu::ComputeThreads& threads);

  /// Bytes of a state of `count` parameters. With int8 moments `count` must be a multiple of
  /// kMomentBlockElements: pad with zeros.
  [[nodiscard]] std::uint64_t bytes(StateKind kind, std::uint64_t count) const;
  [[nodiscard]] const StateFormat& format() const { return format_; }

  [[nodiscard]] const OptimizerOptions& options() const { return options_; }
  /// Takes another learning rate (schedules), or all hyperparameters anew, of the same optimizer
  /// (UsageError otherwise). Throws ConfigError as the constructor does.
  void set_options(const OptimizerOptions& options);

  /// Splits fp32 values into `states.weight` and `states.master`, and sets m and v to zeros.
  /// Throws UsageError when a span has another size than `bytes` says.
  void initialize(std::span<const float> values, const States& states) const;

  /// One update of all of `states`, on all threads. `step` counts from 1. `gradient`: one number in
  /// `gradient_format` for each parameter; it is multiplied by `gradient_scale` first. `sequence`
  /// keys random rounding: a different one for each vector of a model. No ranges overlap. Gives the
  /// same bits whatever the threads. Throws UsageError, before anything is changed, for a span of
  /// another size than `bytes` says, a step below 1, or a count that int8 moments cannot have.
  void step(std::int64_t step, const States& states, std::span<const std::byte> gradient,
            Precision gradient_format, float gradient_scale = 1.0f,
            std::uint64_t sequence = 0) const;

 private:
  OptimizerOptions options_;
  StateFormat format_;
  optim_cpu::ComputeThreads& threads_;
};

/// Adam and AdamW.
class Adam : public Optimizer {
 public:
  Adam(const AdamOptions& options, const StateFormat& format, optim_cpu::ComputeThreads& threads)
      : Optimizer(options, format, threads) {}
};

class Sgd : public Optimizer {
 public:
  Sgd(const SgdOptions& options, const StateFormat& format, optim_cpu::ComputeThreads& threads)
      : Optimizer(options, format, threads) {}
};

class Adagrad : public Optimizer {
 public:
  Adagrad(const AdagradOptions& options, const StateFormat& format,
          optim_cpu::ComputeThreads& threads)
      : Optimizer(options, format, threads) {}
};

class Lion : public Optimizer {
 public:
  Lion(const LionOptions& options, const StateFormat& format, optim_cpu::ComputeThreads& threads)
      : Optimizer(options, format, threads) {}
};

}  // namespace strata::optim
