#pragma once

#include <span>

#include "strata/base/counters.h"
#include "zero3/unit.h"

namespace strata::zero3 {

/// Makes a device region the unit's parameters (hop 3, gather). With one rank the device shard is
/// the whole unit, so nothing is copied: the flat vectors' storages get the region's bytes.
/// `region` has unit.region_bytes(), or is empty for a unit whose weights rest on the device.
void gather(Unit& unit, std::span<std::byte> region, Counters& counters);

/// Takes the bytes away again: reading a parameter then is an error that LibTorch reports.
void release(Unit& unit);

}  // namespace strata::zero3
