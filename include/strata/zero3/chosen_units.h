#pragma once

#include <vector>

#include "strata/zero3/sharding.h"

/// \file
/// Units that not every micro-batch goes through: experts, say.

namespace strata::zero3 {

/// Which of some units any rank has chosen: a collective of the ranks of `unit`'s engine. All ranks
/// have to enter the same units in the same order, so one that chooses by what it computes enters
/// those that this returns, with inputs of no rows where it has none itself; their gradients are
/// zeros then. `chosen` has the same size on all ranks. With one rank it is returned as it is.
/// Throws RankFailure, DeadlineExceeded; UsageError where the engine is gone.
[[nodiscard]] std::vector<bool> chosen_by_any_rank(const UnitHandle& unit,
                                                   const std::vector<bool>& chosen);

}  // namespace strata::zero3
