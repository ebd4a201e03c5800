#pragma once

#include "command.h"

namespace strata::bench {

/// `DIR...` with no command: in less than a minute, what the disks give, with which settings, and
/// what that means for a model. Its options stand at the top of the command line.
[[nodiscard]] Command add_quick_command(CLI::App& app);

}  // namespace strata::bench
