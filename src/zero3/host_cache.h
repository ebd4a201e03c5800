#pragma once

#include <string_view>

#include "strata/tiering/state_home.h"
#include "strata/tiering/tiers.h"

namespace strata::zero3 {

/// Moves a state from nvme to host memory, where it stays: takes the memory, reads the extent once,
/// and makes the memory its home. The extent stays taken, with bytes that are of no use any more.
/// Nothing of it is being moved. `what` names it in messages. Throws BudgetError, IoError,
/// DeadlineExceeded, CorruptData; the home is as it was then. Thread: the engine's.
void keep_in_host_memory(tiering::StateHome& home, std::string_view what, tiering::Tiers& tiers);

}  // namespace strata::zero3
