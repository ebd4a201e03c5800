#pragma once

#include <torch/library.h>

#include <string>
#include <vector>

namespace strata::simulated {

/// Registers the kernels of the CPU for every operator of `aten` that has one and that the device
/// has no kernel of its own for, so that results have the bits of the CPU's. (Without, LibTorch
/// takes some operators apart and computes the parts, which rounds otherwise.)
///
/// A kernel is put on the current stream and the call returns, as a launch does, where the shapes
/// of the results are known beforehand. Where they are not, or random numbers are drawn, the call
/// waits for the stream, but nothing is ordered by that: another device would not have waited.
void register_operator_fallback(torch::Library& aten);

/// Registers the same for operators outside of `aten`.
void register_fallback_for_other_operators(torch::Library& all);

}  // namespace strata::simulated
