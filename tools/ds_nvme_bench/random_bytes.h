#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace strata::nvme_bench {

/// Bytes that neither compress nor repeat, as a function of their place: the byte at `position` of
/// the stream `seed` is always the same, so that a reader can tell what a writer wrote. `position`
/// and the length are multiples of 8. Several GB/s.
void fill_random(std::span<std::byte> bytes, std::uint64_t seed, std::uint64_t position);

/// The first byte of `bytes` that differs from `fill_random`'s; their number if none does.
[[nodiscard]] std::size_t first_difference(std::span<const std::byte> bytes, std::uint64_t seed,
                                           std::uint64_t position);

/// A well-mixed number, different for every `value` (the finalizer of splitmix64).
[[nodiscard]] constexpr std::uint64_t mix(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
  return value ^ (value >> 31);
}

}  // namespace strata::nvme_bench
