#pragma once

#include <cstdint>

namespace strata::tool {

/// A high-quality 64-bit mixing function (the finalizer of SplitMix64): neighbouring inputs give
/// unrelated outputs, which makes a random generator of a plain counter.
[[nodiscard]] constexpr std::uint64_t mix(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15u;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
  return value ^ (value >> 31);
}

/// Maps 64 random bits to [0, count) by the high half of their product.
[[nodiscard]] constexpr std::uint64_t scale_down(std::uint64_t random, std::uint64_t count) {
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(random) * count) >> 64);
}

}  // namespace strata::tool
