#pragma once

#include <cstdint>

/// \file
/// The vocabulary for uses of units.

namespace strata::zero3 {

/// The number of a unit, in the order in which they were made.
using UnitId = std::uint32_t;

enum class Pass : std::uint8_t { kForward, kBackward };

/// One entry of a unit: which, and in which direction.
struct Entry {
  UnitId unit;
  Pass pass;
  bool operator==(const Entry&) const = default;
};

/// The purpose of an entry, on which the expected order depends: a training step, or an evaluation
/// between two of them.
enum class View : std::uint8_t { kTraining, kEvaluating };

}  // namespace strata::zero3
