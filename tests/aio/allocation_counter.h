#pragma once

#include <cstdint>

namespace strata::aio {

/// How often this program has called operator new. A program that links allocation_counter.cpp has
/// all its allocations counted.
[[nodiscard]] std::uint64_t allocations_so_far();

}  // namespace strata::aio
