#pragma once

#include <cstdint>

/// \file
/// The words in which uses of units are spoken of.

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

/// What an entry is a part of, and what is expected next with it: a training step, or an evaluation
/// between two of them.
enum class View : std::uint8_t { kTraining, kEvaluating };

}  // namespace strata::zero3
