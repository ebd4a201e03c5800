#pragma once

#include <iosfwd>

#include "finetune_options.h"
#include "strata/base/log.h"

namespace strata::tool {

/// Runs `strata finetune`: everything that can be wrong with the input is found before anything is
/// written; then builds, trains, evaluates and publishes the output, and writes a sample of the
/// model's own if asked for. Results go to `out`, in place on a terminal; choices and warnings to
/// `log`. Under a launcher the ranks train together, and the first one speaks and writes for all.
/// Throws strata::Error; then the output directory does not exist, unless only the sample failed.
void finetune(const FinetuneOptions& options, std::ostream& out, bool terminal, Logger& log);

}  // namespace strata::tool
