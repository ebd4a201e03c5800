#pragma once

#include <bit>
#include <cstdint>

/// \file
/// The random numbers of stochastic rounding: a hash of (sequence, step, element), so that an
/// element gets the same ones whoever updates it. Not for cryptography.

namespace strata::optim_cpu {

/// Mixes a vector's sequence and the step into the key of one update (the finalizer of splitmix64;
/// Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
[[nodiscard]] constexpr std::uint32_t make_dither_key(std::uint64_t sequence, std::uint64_t step) {
  std::uint64_t x = sequence * 0xD1342543DE82EF95 + step * 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return static_cast<std::uint32_t>((x ^ (x >> 31)) >> 32);
}

/// The elements that share a hash: four rows of sixteen columns.
inline constexpr std::uint32_t kDitherColumns = 16;
inline constexpr std::uint32_t kDitherRows = 4;
inline constexpr std::uint32_t kDitherBlock = kDitherColumns * kDitherRows;

/// Random odd numbers, one for each column.
struct DitherColumns {
  constexpr DitherColumns() : factor() {
    for (std::uint32_t k = 0; k < kDitherColumns; ++k) factor[k] = make_dither_key(k + 1, 0) | 1;
  }
  alignas(64) std::uint32_t factor[kDitherColumns];
};
inline constexpr DitherColumns kDitherColumn;

/// A 32-bit mixer that hash-prospector's search found ("lowbias32"; Wellons, 2018).
inline constexpr std::uint32_t kMixerFactors[] = {0x7FEB352D, 0x846CA68B};
[[nodiscard]] constexpr std::uint32_t mixed_bits(std::uint32_t x) {
  x = (x ^ (x >> 16)) * kMixerFactors[0];
  x = (x ^ (x >> 15)) * kMixerFactors[1];
  return x ^ (x >> 16);
}

/// The hash that a block's elements share, made odd.
[[nodiscard]] constexpr std::uint32_t dither_block_hash(std::uint32_t key, std::uint64_t block) {
  return mixed_bits(key + static_cast<std::uint32_t>(block)) | 1;
}

/// 32 random bits for an element: a product for its column, turned for its row. The index counts
/// modulo 2^38.
[[nodiscard]] constexpr std::uint32_t dither_bits(std::uint32_t key, std::uint64_t element) {
  const auto row = static_cast<int>(element / kDitherColumns % kDitherRows);
  std::uint32_t x = dither_block_hash(key, element / kDitherBlock);
  x *= kDitherColumn.factor[element % kDitherColumns];
  return std::rotl(x ^ (x >> 16), 8 * row);
}

// Which bits round what. bf16: the lower half m, the upper half v. int8: all of them v, and all of
// them with their halves exchanged m. Those are as good as independent, since the upper bits
// decide. The master: eight from the middle. Each rounding has the right mean by itself.
inline constexpr std::uint32_t kHalf = 16;
inline constexpr std::uint32_t kLowerHalf = 0xFFFF;
inline constexpr std::uint32_t kMasterDitherShift = 12;
inline constexpr std::uint32_t kMasterDitherMask = 0xFF;

}  // namespace strata::optim_cpu
