#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "strata/formats/name_pattern.h"
#include "strata/models/lora_config.h"
#include "strata/zero3/unit_layout.h"

namespace strata::models {

/// A unit whose parameters are added as its module registers them.
class UnitBuilder {
 public:
  /// `fp32_patterns` outlives it. Where there is `lora`, adapters alone are trained.
  UnitBuilder(std::string name, const std::vector<std::string>& fp32_patterns,
              std::optional<LoraConfig> lora = std::nullopt)
      : fp32_patterns_(fp32_patterns), lora_(std::move(lora)) {
    unit_.name = std::move(name);
  }

  void add(std::string name, std::vector<std::int64_t> shape) {
    const std::string full_name = unit_.full_name(name);
    unit_.add(std::move(name), std::move(shape), !lora_ || is_adapter_parameter(full_name),
              formats::matches_any_pattern(fp32_patterns_, full_name));
  }
  /// A `Projection` (projection.h).
  void add_projection(const std::string& name, std::int64_t in, std::int64_t out, bool has_bias) {
    add(name + ".weight", {out, in});
    if (has_bias) add(name + ".bias", {out});
    if (const LoraConfig* const lora = adapter_of(lora_, unit_.full_name(name))) {
      add(name + "." + kLoraA + ".weight", {lora->rank, in});
      add(name + "." + kLoraB + ".weight", {out, lora->rank});
    }
  }
  [[nodiscard]] zero3::UnitLayout take() { return std::move(unit_); }

 private:
  const std::vector<std::string>& fp32_patterns_;
  std::optional<LoraConfig> lora_;
  zero3::UnitLayout unit_;
};

}  // namespace strata::models
