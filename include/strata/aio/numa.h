#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace strata::aio {

/// The NUMA node whose cores are the only ones that the calling thread may run on; -1 where they
/// are on several nodes, as on a machine that nobody has divided, or nothing is known.
[[nodiscard]] int numa_node_of_allowed_cores();

/// Confines the calling thread to the cores of a NUMA node, or to those of them that it may use
/// already. Returns "", also for node -1 (nothing to do), or why it could not be done (no such
/// node, a container that forbids it): work goes on where it is.
std::string run_on_numa_node(int node);

/// Asks that the pages of `memory` be taken from `node` (-1: the node that the calling thread runs
/// on), and from a neighbour when it is full. Pages that are there already stay. Returns "" or why
/// it could not be had; the memory is usable either way. A machine with one node has nothing to
/// bind.
[[nodiscard]] std::string bind_to_numa_node(std::span<std::byte> memory, int node);

}  // namespace strata::aio
