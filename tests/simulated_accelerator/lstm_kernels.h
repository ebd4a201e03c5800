#pragma once

#include <torch/library.h>

namespace strata::simulated {

/// Registers the fused cell of an LSTM, which LibTorch calls for every accelerator and which has no
/// kernel on the CPU. It has the bits of the CPU's layer where that is not oneDNN's.
void register_lstm_kernels(torch::Library& aten);

}  // namespace strata::simulated
