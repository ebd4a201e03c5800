#pragma once

#include <torch/torch.h>

#include <optional>

namespace strata::models {

/// The rows that bear loss: no logits are made of the others.
struct LossRows {
  torch::Tensor hidden;   ///< [n, d]
  torch::Tensor targets;  ///< int64 [n]
  double divisor;         ///< what the sum of their losses is divided by
};

/// Those of hidden [N, d] whose target [N] is not kNoTarget, the very tensors where all are such.
/// Where none is, one row with an infinite divisor, so that loss and gradients are zeros.
/// `divisor`: that of TokenBatch; none: n.
[[nodiscard]] LossRows loss_rows(const torch::Tensor& hidden, const torch::Tensor& targets,
                                 std::optional<double> divisor);

/// The divisor alone.
[[nodiscard]] double loss_divisor(const torch::Tensor& targets, std::optional<double> divisor);

}  // namespace strata::models
