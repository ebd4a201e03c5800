#pragma once

#include <cstddef>

namespace strata::tool {

/// From now on, blocks of at least `bytes` go back to the system when they are freed.
///
/// glibc, left to itself, keeps freed blocks of up to 32 MiB for later, and with sizes as mixed as
/// those of activations and gradients that comes to some 150 MiB of holes. Budgets are for machines
/// where memory is scarce. The price is a page fault for every page of a new block.
void return_freed_blocks_from(std::size_t bytes);

}  // namespace strata::tool
