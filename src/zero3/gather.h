#pragma once

#include <span>

#include "strata/base/counters.h"
#include "zero3/unit.h"

namespace strata::zero3 {

/// Makes a device shard the unit's parameters (hop 3, gather). With one rank the shard is the whole
/// unit, so nothing is copied: the flat vectors' storages get the region's bytes, until
/// Unit::detach. `region` has unit.region_bytes(), or is empty for a unit whose weights rest on the
/// device.
void gather(Unit& unit, std::span<std::byte> region, Counters& counters);

}  // namespace strata::zero3
