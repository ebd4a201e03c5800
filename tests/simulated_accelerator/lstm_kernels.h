#pragma once

#include <torch/library.h>

namespace strata::simulated {

/// Registers the LSTM of fp32 sequences as the CPU computes it, layer by layer with oneDNN; for
/// other accelerators LibTorch takes it apart, which rounds otherwise.
void register_lstm_kernels(torch::Library& autograd);

}  // namespace strata::simulated
