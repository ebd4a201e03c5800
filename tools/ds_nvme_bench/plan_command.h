#pragma once

#include "command.h"

namespace strata::bench {

/// `plan --params N`: what disks mean for a model: bytes, seconds of disk per step, the tokens that
/// hide them, and the days until the drives are worn out.
[[nodiscard]] Command add_plan_command(CLI::App& app);

}  // namespace strata::bench
