#pragma once

#include <iosfwd>

#include "inspect_options.h"
#include "interruption.h"

namespace strata::tool {

/// Runs `strata inspect`. Throws DataError, naming file and reason, for what is not sound; IoError;
/// Interrupted.
void inspect(const InspectOptions& options, std::ostream& out, const Interruption& interruption);

}  // namespace strata::tool
