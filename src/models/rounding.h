#pragma once

#include <torch/torch.h>

#include "strata/base/number_format.h"

namespace strata::models {

/// The weight that forward and backward read for fp32 masters, rounded as the engine rounds them
/// (number_format.h): bf16 to nearest, ties away from zero, where LibTorch's own conversion rounds
/// ties to even; fp16 to nearest, ties to even.
[[nodiscard]] torch::Tensor rounded_weight(const torch::Tensor& masters, Precision precision);

}  // namespace strata::models
