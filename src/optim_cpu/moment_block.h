#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "optim_cpu/number_conversions.h"
#include "strata/base/number_format.h"

/// \file
/// The block of MomentFormat::kInt8: 64 codes of one byte and the scale that they share.
///
/// The scale is the largest magnitude in the block, as a bf16 that is rounded up. m is linear: a
/// code c in [-126, 126] stands for c / 126 of the scale. v is coded by its root, which covers
/// twice the decades and is what the update divides by: a code c in [1, 254] stands for (c / 254 *
/// scale)^2, where the scale is the largest root. No code of v stands for zero: a v that is small
/// beside its block is taken for larger than it is, which makes a step smaller. As zero it would
/// leave eps alone to divide by.
///
/// The 16 bits of the scale lie in the lowest bits of the first 16 codes, first code first, and
/// those codes count in steps of two. So a block is 64 bytes, one cache line; a state of whole
/// blocks has one byte per element, and lies on every grid that the other states lie on.

namespace strata::optim_cpu {

inline constexpr std::size_t kBlock = kMomentBlockElements;
/// Codes whose lowest bit belongs to the scale.
inline constexpr std::size_t kCoarseCodes = 16;  // one for each bit of the scale

inline constexpr float kCodesOfM = 126.0f;
inline constexpr float kCodesOfV = 254.0f;
inline constexpr float kUnitOfM = 1.0f / kCodesOfM;  ///< part of the scale
inline constexpr float kUnitOfV = 1.0f / kCodesOfV;

/// Codes are worked out in units of 2^-32 of a step: next to kToSteps an fp32 number has no smaller
/// part than 2^32, so an addition rounds to the nearest step, ties to even, which then lies in the
/// low byte.
inline constexpr float kPartsOfStep = 0x1p32f;
inline constexpr float kToSteps = 0x1.8p23f * kPartsOfStep;

/// Parts in a scale: a little fewer than its codes have, so that no dither, of at most half a step,
/// takes the largest value of a block to the tie with a code that there is not.
inline constexpr float kPartsOfM = kCodesOfM * kPartsOfStep * (1 - 0x1p-22f);
inline constexpr float kPartsOfV = kCodesOfV * kPartsOfStep * (1 - 0x1p-22f);

// ---- the scale's bits --------------------------------------------------------------------------

static_assert(std::endian::native == std::endian::little, "the first code is the lowest byte");

/// The lowest bits of eight codes, first code first.
[[nodiscard]] inline std::uint32_t gather_low_bits(std::uint64_t codes) {
  return static_cast<std::uint32_t>(((codes & 0x0101010101010101) * 0x0102040810204080) >> 56);
}

/// The inverse: eight codes of 0 or 1.
[[nodiscard]] inline std::uint64_t spread_low_bits(std::uint32_t bits) {
  const std::uint64_t everywhere = std::uint64_t{bits & 0xFF} * 0x0101010101010101;
  const std::uint64_t one_each = everywhere & 0x8040201008040201;
  return ((one_each + 0x7F7F7F7F7F7F7F7F) >> 7) & 0x0101010101010101;
}

[[nodiscard]] inline float scale_of_block(const std::uint8_t* codes) {
  std::uint64_t halves[2];
  std::memcpy(halves, codes, sizeof halves);
  const std::uint32_t bits = gather_low_bits(halves[0]) | gather_low_bits(halves[1]) << 8;
  return from_bf16(static_cast<std::uint16_t>(bits));
}

/// Puts the scale into codes whose lowest bits are clear.
inline void set_scale_of_block(std::uint8_t* codes, std::uint16_t scale) {
  std::uint64_t halves[2];
  std::memcpy(halves, codes, sizeof halves);
  halves[0] |= spread_low_bits(scale);
  halves[1] |= spread_low_bits(scale >> 8u);
  std::memcpy(codes, halves, sizeof halves);
}

// ---- the scale's value -------------------------------------------------------------------------

inline constexpr std::uint32_t kNegligible = 0x17800000;    ///< 2^-80
inline constexpr std::uint32_t kLargestScale = 0x7F7F0000;  ///< the largest bf16

/// The coding of a block.
struct BlockScale {
  std::uint16_t bits;  ///< bf16
  float inverse;       ///< parts of a step per unit of the value
  bool finite;         ///< false: every code is 0, and the NaN in `bits` makes all values NaN
};

/// `largest`: the bits of the largest magnitude in the block; `parts` of it in a scale. A block
/// below 2^-80 becomes zero.
[[nodiscard]] inline BlockScale scale_for(std::uint32_t largest, float parts) {
  if (largest < kNegligible) return {.bits = 0, .inverse = 0.0f, .finite = true};
  if (largest > kLargestScale) return {.bits = kQuietNan >> 16, .inverse = 0.0f, .finite = false};
  const auto bits = static_cast<std::uint16_t>((largest + 0xFFFF) >> 16);
  return {.bits = bits, .inverse = parts / from_bf16(bits), .finite = true};
}

}  // namespace strata::optim_cpu
