#pragma once

#include <torch/torch.h>

#include <optional>

/// \file
/// Soft caps of logits (Bello et al. 2016, "Neural Combinatorial Optimization", and Gemma 2): what
/// is capped stays within -cap and cap.

namespace strata::models {

/// cap tanh(logits / cap), in their format; the same where there is no cap.
[[nodiscard]] inline torch::Tensor soft_capped(const torch::Tensor& logits,
                                               std::optional<double> cap) {
  return cap ? torch::tanh(logits / *cap) * *cap : logits;
}

/// Multiplies the gradient of capped values by the derivative, so that it is that of the values
/// before the cap.
inline void through_soft_cap(torch::Tensor& gradient, const torch::Tensor& capped,
                             std::optional<double> cap) {
  if (cap) gradient.mul_(1.0 - (capped / *cap).square_());
}

}  // namespace strata::models
