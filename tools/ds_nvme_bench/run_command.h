#pragma once

#include "command.h"

namespace strata::bench {

/// `run DIR...`: one point, as asked.
[[nodiscard]] Command add_run_command(CLI::App& app);

}  // namespace strata::bench
