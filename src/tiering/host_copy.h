#pragma once

#include <cstddef>
#include <span>

#include "strata/base/counters.h"

namespace strata::tiering {

/// Upload and drain where the device is host memory: a copy, counted as `hop`. Throws UsageError
/// when the spans differ in length or overlap.
void copy_on_host(Hop hop, std::span<const std::byte> from, std::span<std::byte> to,
                  Counters& counters);

}  // namespace strata::tiering
