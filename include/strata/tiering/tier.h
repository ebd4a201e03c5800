#pragma once

#include <array>
#include <string_view>

namespace strata::tiering {

/// Where bytes live. On a machine without a GPU the device tier is host memory with its own budget.
enum class Tier { kDevice, kHost, kNvme };

inline constexpr std::array kTiers = {Tier::kDevice, Tier::kHost, Tier::kNvme};

[[nodiscard]] constexpr std::string_view name_of(Tier tier) {
  return tier == Tier::kDevice ? "device" : tier == Tier::kHost ? "host" : "nvme";
}

}  // namespace strata::tiering
