#pragma once

#include <malloc.h>

#include <cstddef>

#include "strata/base/units.h"

/// \file
/// When freed memory goes back to the system.

namespace strata::tool {

/// While a model is built, each unit's weights exist for a moment between small objects that stay:
/// the holes they would leave add up over the units.
inline constexpr std::size_t kReturnedWhileBuilding = 64_KiB;

/// Makes blocks of at least `bytes` go back to the system when they are freed, from now on.
///
/// glibc, left to itself, keeps freed blocks of up to 32 MiB for later, and with sizes as mixed as
/// those of activations and gradients that comes to some 150 MiB of holes. Budgets are for machines
/// where memory is scarce. The price is a page fault for every page of a new block.
inline void return_freed_blocks_from(std::size_t bytes) {
  mallopt(M_MMAP_THRESHOLD, static_cast<int>(bytes));
  mallopt(M_TRIM_THRESHOLD, static_cast<int>(bytes));
}

}  // namespace strata::tool
