#pragma once

#include <torch/library.h>

namespace strata::simulated {

/// Registers the copies between host and device, on the device, and of single values to the host.
///
/// A copy goes to the current stream. Memory of the host that is not pinned is read before the call
/// returns; pinned memory is read in stream order when the copy is non-blocking. A copy to the host
/// waits for its stream, and orders the host behind it, unless it is non-blocking and to pinned
/// memory.
void register_copy_kernels(torch::Library& aten);

}  // namespace strata::simulated
