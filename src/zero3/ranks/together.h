#pragma once

#include <functional>

#include "zero3/ranks/ranks.h"

namespace strata::zero3 {

/// Does this rank's part of a work that fails for all ranks or for none: when it failed on one of
/// them, the others throw an error of the same kind that names that rank, and nobody is waited for
/// in vain. A collective; `work` has none inside. What is no strata::Error is thrown at once, which
/// ends the run.
void do_together(Ranks& ranks, const std::function<void()>& work);

}  // namespace strata::zero3
