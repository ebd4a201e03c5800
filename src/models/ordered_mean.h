#pragma once

#include <torch/torch.h>

namespace strata::models {

/// The sum of fp32 row losses [N] over `divisor`, an fp32 scalar: added in double, in order, as
/// LibTorch's own sum of many elements depends on the number of threads. It has no gradient.
[[nodiscard]] torch::Tensor mean_in_order(const torch::Tensor& row_losses, double divisor);

}  // namespace strata::models
