#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "zero3/ranks/ranks.h"

namespace strata::zero3 {

/// Names and values, in the same order on all ranks that agree.
using Facts = std::vector<std::pair<std::string, std::string>>;

/// Returns when all ranks have come with the same facts. Otherwise throws ConfigError on all of
/// them: "`what` differs between ranks: ...", with the first fact that differs, and both values. A
/// collective.
void require_agreement(Ranks& ranks, std::string_view what, const Facts& facts);

}  // namespace strata::zero3
