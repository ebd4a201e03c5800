#pragma once

#include <cstdint>
#include <string>

namespace strata::tiering {

/// Asks that pages of [base, base + bytes) be taken from `node` (-1: the node that the calling
/// thread runs on). Returns why that could not be had, empty when it was; the memory is usable
/// either way. A machine with one node has nothing to bind.
[[nodiscard]] std::string bind_to_numa_node(void* base, std::uint64_t bytes, int node);

}  // namespace strata::tiering
