#pragma once

#include "zero3/ranks/ranks.h"

namespace strata::zero3 {

/// A run of a single rank: every collective is done when it has begun, and only all_to_all between
/// different memory moves anything.
class OneRank final : public Ranks {
 public:
  [[nodiscard]] int rank() const noexcept override { return 0; }
  [[nodiscard]] int size() const noexcept override { return 1; }

 private:
  Collective begin(const CollectiveCall& call) override;
};

}  // namespace strata::zero3
