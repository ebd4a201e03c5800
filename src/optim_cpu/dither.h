#pragma once

#include <cstdint>

/// \file
/// The random numbers of stochastic rounding: a hash of (stream, step, element), so that an element
/// gets the same ones whoever updates it. Not for cryptography.

namespace strata::optim_cpu {

/// Mixes a shard's stream and the step into the key of one update (the finalizer of splitmix64;
/// Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
[[nodiscard]] constexpr std::uint32_t make_dither_key(std::uint64_t stream, std::uint64_t step) {
  std::uint64_t x = stream * 0xD1342543DE82EF95 + step * 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return static_cast<std::uint32_t>((x ^ (x >> 31)) >> 32);
}

// The multipliers of "lowbias32", the 32-bit mixer that hash-prospector's search found (Wellons,
// 2018); its shifts are 16, 15, 16.
inline constexpr std::uint32_t kDitherMultiplier1 = 0x7FEB352D;
inline constexpr std::uint32_t kDitherMultiplier2 = 0x846CA68B;

/// Elements whose random bits are hashed; those of the next ones are made from them by a step of a
/// linear congruential generator each, which takes a third of the time.
inline constexpr std::uint32_t kDitherColumns = 16;
inline constexpr std::uint32_t kDitherRows = 4;
inline constexpr std::uint32_t kDitherBlock = kDitherColumns * kDitherRows;
// The first: none. The others: Steele and Vigna, "Computationally easy, spectrally good multipliers
// for congruential pseudorandom number generators", 2021, table 3.
inline constexpr std::uint32_t kDitherFactor[kDitherRows] = {1, 0x915F77F5, 0x93D765DD, 0xADB4A92D};
inline constexpr std::uint32_t kDitherAddend[kDitherRows] = {0, 0x9E3779B9, 0x3C6EF373, 0xDAA66D2B};

/// 32 random bits for an element. The index counts modulo 2^34.
[[nodiscard]] constexpr std::uint32_t dither_bits(std::uint32_t key, std::uint64_t element) {
  const auto block = static_cast<std::uint32_t>(element / kDitherBlock);
  const auto row = static_cast<std::uint32_t>(element / kDitherColumns % kDitherRows);
  std::uint32_t x = key + block * kDitherColumns + element % kDitherColumns;
  x = (x ^ (x >> 16)) * kDitherMultiplier1;
  x = (x ^ (x >> 15)) * kDitherMultiplier2;
  return (x ^ (x >> 16)) * kDitherFactor[row] + kDitherAddend[row];
}

// Which bits round what. bf16: the lower half m, the upper half v. int8: all of them v; the lower
// half, moved up, m. Those are as good as independent, since the upper bits decide. The master:
// eight from the middle. Each rounding has the right mean by itself.
inline constexpr std::uint32_t kHalf = 16;
inline constexpr std::uint32_t kLowerHalf = 0xFFFF;
inline constexpr std::uint32_t kMasterDitherShift = 12;
inline constexpr std::uint32_t kMasterDitherMask = 0xFF;

}  // namespace strata::optim_cpu
