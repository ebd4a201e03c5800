#pragma once

#include <iosfwd>

#include "export_options.h"
#include "interruption.h"

namespace strata::tool {

/// Runs `strata export --merge`, and says on `out` what was written. Throws DataError, naming the
/// file, for an adapter that is damaged or of another model; ConfigError for one that does what is
/// not supported, and an output that is there; IoError; Interrupted. Then nothing is left.
void merge_adapter(const ExportOptions& options, std::ostream& out,
                   const Interruption& interruption);

}  // namespace strata::tool
