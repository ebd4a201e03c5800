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
inline void return_freed_blocks_from(std::size_t bytes) {
  mallopt(M_MMAP_THRESHOLD, static_cast<int>(bytes));
  mallopt(M_TRIM_THRESHOLD, static_cast<int>(bytes));
}

}  // namespace strata::tool
