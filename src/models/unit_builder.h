#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "strata/formats/name_pattern.h"
#include "strata/zero3/unit_layout.h"

namespace strata::models {

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

}  // namespace strata::models
