#pragma once

#include <cstdint>

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

}  // namespace strata::zero3
