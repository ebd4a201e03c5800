#pragma once

#include <vector>

#include "strata/formats/ds_config.h"
#include "strata/zero3/unit_layout.h"
#include "zero3/ranks/agreement.h"

/// \file
/// What all ranks of a run must have in common.

namespace strata::zero3 {

/// Every key of a resolved config and its value, but for the directories of nvme: each host has its
/// own.
[[nodiscard]] Facts facts_of(const formats::DsConfig& config);

/// Every unit, and every parameter with its shape and format.
[[nodiscard]] Facts facts_of(const std::vector<UnitLayout>& units);

}  // namespace strata::zero3
