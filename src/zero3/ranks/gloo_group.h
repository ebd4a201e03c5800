#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>

namespace strata::zero3 {

/// Connects all ranks by LibTorch's Gloo, over the network interface that GLOO_SOCKET_IFNAME names,
/// else that of the host's name; all ranks call it, and meet in `store`. It waits for the others
/// for so long at most. Throws what c10d throws, and ConfigError in a build without Gloo's headers.
[[nodiscard]] c10::intrusive_ptr<c10d::Backend> connect_by_gloo(
    const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
    std::chrono::milliseconds patience);

}  // namespace strata::zero3
