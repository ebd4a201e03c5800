#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "strata/base/number_format.h"
#include "strata/formats/name_pattern.h"
#include "strata/zero3/unit_layout.h"

namespace strata::models {

/// Arithmetic of a unit's backward, for one of its forward.
inline constexpr double kBackwardPerForward = 2;
/// Tiles in a device budget, where other units are smaller: one in use, others that come and go.
inline constexpr std::uint64_t kTilesOfBudget = 4;

/// A unit whose parameters are added as its module registers them.
class UnitBuilder {
 public:
  /// `fp32_patterns` outlives it.
  UnitBuilder(std::string name, const std::vector<std::string>& fp32_patterns)
      : fp32_patterns_(fp32_patterns) {
    unit_.name = std::move(name);
  }

  void add(std::string name, std::vector<std::int64_t> shape) {
    const bool fp32 = formats::matches_any_pattern(fp32_patterns_, unit_.full_name(name));
    unit_.add(std::move(name), std::move(shape), /*trainable=*/true, fp32);
  }
  [[nodiscard]] zero3::UnitLayout take() { return std::move(unit_); }

 private:
  const std::vector<std::string>& fp32_patterns_;
  zero3::UnitLayout unit_;
};

/// Bytes of a unit's parameters on the device.
[[nodiscard]] inline std::uint64_t device_bytes(const zero3::UnitLayout& unit,
                                                Precision precision) {
  return unit.trainable_count * weight_bytes(precision) +
         unit.fp32_trainable_count * weight_bytes(Precision::kFp32);
}

}  // namespace strata::models
