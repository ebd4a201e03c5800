#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "zero3/ranks/ranks.h"

namespace strata::zero3 {

/// The part of its host that a rank has.
struct HostShare {
  std::uint64_t ranks = 1;  ///< of the run on this host, this one among them: they share its memory
  int threads = 1;          ///< that may compute at once, beside those of the other ranks
};

/// What this rank may use of its host: the cores, as far as the process may run on them, divided
/// among the ranks that may run on the same ones, and at least one. So ranks that a launcher has
/// bound to cores of their own each keep all of theirs. A collective.
[[nodiscard]] HostShare host_share(Ranks& ranks);

/// Deals directories out among the ranks of a host: which of them each rank has, as indices in
/// ascending order. Each has at least one. With as many directories as ranks or more, no two ranks
/// have the same one, and none has two more than another; with fewer, no directory has two ranks
/// more than another. As far as that leaves a choice, a rank has those on its own NUMA node (-1:
/// unknown). Equal arguments give equal answers, so that ranks need not talk.
[[nodiscard]] std::vector<std::vector<std::size_t>> deal_directories(
    std::span<const int> directory_nodes, std::span<const int> rank_nodes);

/// This rank's own of `directories`, which are those of all ranks of its host: see
/// deal_directories. A rank's node is that of the cores that it may run on. A collective.
[[nodiscard]] std::vector<std::string> own_directories(Ranks& ranks,
                                                       const std::vector<std::string>& directories);

}  // namespace strata::zero3
