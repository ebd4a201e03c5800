#pragma once

#include <torch/library.h>

namespace strata::simulated {

/// Registers dropout with the bits of the CPU's, which rounds otherwise than the fused operator
/// that LibTorch calls for an accelerator.
void register_dropout_kernels(torch::Library& aten);

}  // namespace strata::simulated
