#pragma once

#include <torch/library.h>

namespace strata::simulated {

/// Registers scaled dot product attention with the algorithm that LibTorch would choose for the
/// same tensors on the CPU, so that it has the same bits.
void register_attention_kernels(torch::Library& aten);

}  // namespace strata::simulated
