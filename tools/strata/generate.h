#pragma once

#include <iosfwd>

#include "generate_options.h"
#include "strata/base/log.h"

namespace strata::tool {

/// Runs `strata generate`: everything that can be wrong with the input is found before weights are
/// read; then places the model's weights, frozen, in the tiers and continues the prompts, as many
/// at a time as the keys and values of have room. A single text goes to `out` as it is made,
/// several each when they are complete; choices, and at the end what it took, to `log`. Throws
/// strata::Error.
void generate(const GenerateOptions& options, std::ostream& out, Logger& log);

}  // namespace strata::tool
