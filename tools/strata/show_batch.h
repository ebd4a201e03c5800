#pragma once

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

#include "batch_sampler.h"

namespace strata::tool {

/// What makes text of each of several lists of tokens.
using TextOfTokens =
    std::function<std::vector<std::string>(const std::vector<std::vector<std::int64_t>>&)>;

/// Prints the first `count` sequences of a sampler of one row each as text, a line between the
/// documents of one. What bears loss stands between « and »; padding is counted alone. Throws what
/// the sampler and `text_of` throw.
void show_batch(const BatchSampler& sampler, std::int64_t count, const TextOfTokens& text_of,
                std::ostream& out);

}  // namespace strata::tool
