#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// \file
/// The report of an engine on a step.

namespace strata {

/// The outcome of a call of `Engine::step`.
struct StepReport {
  bool updated =
      false;  ///< parameters changed; false between accumulation boundaries and on overflow
  bool overflow = false;    ///< a gradient was Inf or NaN: nothing was changed
  std::int64_t step = 0;    ///< optimizer steps taken so far
  double lr = 0.0;          ///< learning rate of this step
  double grad_norm = 0.0;   ///< global L2 norm before clipping
  double loss_scale = 1.0;  ///< that the gradients came with
  /// Bytes of weights and of gradients that came from other ranks since the step before; as many
  /// went to them. 0 between accumulation boundaries, and with one rank.
  std::uint64_t gathered_bytes = 0, reduced_bytes = 0;
};

/// The outcome of a call of `Engine::train_batch`.
struct BatchReport {
  StepReport step;
  std::vector<double> losses;  ///< of each micro-batch, as the model gave it
};

/// The norm of a unit's gradient.
struct UnitNorm {
  std::string unit;
  double norm = 0.0;
};

}  // namespace strata
