#pragma once

#include "command.h"

namespace strata::bench {

/// `tune DIR...`: searches the settings with which the disks do a training step's reads and writes
/// soonest, and writes them as the section "aio" of a config.
[[nodiscard]] Command add_tune_command(CLI::App& app);

}  // namespace strata::bench
