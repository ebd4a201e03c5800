#pragma once

#include <iosfwd>

#include "export_options.h"
#include "interruption.h"

namespace strata::tool {

/// Runs `strata export`, and says on `out` what was written. Throws DataError, naming the file, for
/// a checkpoint that is damaged or of another model; ConfigError for a model that is not named or
/// not understood, and an output that is there; IoError; Interrupted. Then nothing is left.
void export_checkpoint(const ExportOptions& options, std::ostream& out,
                       const Interruption& interruption);

}  // namespace strata::tool
