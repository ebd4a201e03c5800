#pragma once

#include <string_view>

#include "strata/formats/ds_config.h"

namespace strata::tool {

/// Sets the budgets that `text` names ("host=4GiB,nvme=60GiB") and leaves the others as they are.
/// Throws ConfigError for an unknown or repeated tier, or a size that is none.
void apply_budget_option(std::string_view text, formats::StrataConfig& config);

}  // namespace strata::tool
