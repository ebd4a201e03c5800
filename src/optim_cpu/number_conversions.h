#pragma once

#include <bit>
#include <cstdint>

/// \file
/// The short formats, one number at a time, in integer arithmetic. The kernels of every
/// instruction set must agree with them.
///
/// NaN: all conversions from fp32 to 16 bits give the one quiet NaN without sign or payload, so
/// that the result does not depend on which operand of an earlier operation an instruction set
/// let win.

namespace strata::optim_cpu {

inline constexpr std::uint32_t kQuietNan = 0x7FC00000;

[[nodiscard]] inline bool is_nan_bits(std::uint32_t bits) {
  return (bits & 0x7FFFFFFF) > 0x7F800000;
}

// ---- bf16 ------------------------------------------------------------------------------------

[[nodiscard]] inline float from_bf16(std::uint16_t value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16);
}

/// Rounds to nearest, ties to even.
[[nodiscard]] inline std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (is_nan_bits(bits)) return kQuietNan >> 16;
  const std::uint32_t lowest_kept_bit = (bits >> 16) & 1;
  return static_cast<std::uint16_t>((bits + 0x7FFF + lowest_kept_bit) >> 16);
}

/// Rounds up or down with the probability of what does not fit; `dither` is uniform in [0, 2^16).
[[nodiscard]] inline std::uint16_t to_bf16_stochastically(float value, std::uint32_t dither) {
  auto bits = std::bit_cast<std::uint32_t>(value);
  if (is_nan_bits(bits)) bits = kQuietNan;
  return static_cast<std::uint16_t>((bits + dither) >> 16);
}

// ---- hi/lo: a bf16 weight and the remainder of the fp32 master -------------------------------

struct HiLo {
  std::uint16_t hi;
  std::int16_t lo;
};

/// hi is the master rounded to nearest, ties away from zero; lo the rest. Every master but NaN
/// comes back with the same bits, also those that round to an infinite hi (FLT_MAX has lo = -1).
[[nodiscard]] inline HiLo split_hi_lo(float master) {
  auto bits = std::bit_cast<std::uint32_t>(master);
  if (is_nan_bits(bits)) bits = kQuietNan;
  const std::uint32_t hi = (bits + 0x8000) >> 16;
  return {static_cast<std::uint16_t>(hi), static_cast<std::int16_t>(bits - (hi << 16))};
}

[[nodiscard]] inline float join_hi_lo(HiLo value) {
  return std::bit_cast<float>((static_cast<std::uint32_t>(value.hi) << 16) +
                              static_cast<std::uint32_t>(static_cast<std::int32_t>(value.lo)));
}

// ---- hi/lo with an int8 lo: the upper 24 bits of the master ------------------------------------

struct HiLo24 {
  std::uint16_t hi;
  std::int8_t lo;
};

/// hi as in split_hi_lo, of the master's upper 24 bits. Those are rounded up or down with the
/// probability of what does not fit; `dither` is uniform in [0, 2^8). A master that fits stays as
/// it is; one within 2^-16 of FLT_MAX may become infinite.
[[nodiscard]] inline HiLo24 split_hi_lo_24(float master, std::uint32_t dither) {
  auto bits = std::bit_cast<std::uint32_t>(master);
  if (is_nan_bits(bits)) bits = kQuietNan;
  bits = (bits + dither) & 0xFFFFFF00;
  const std::uint32_t hi = (bits + 0x8000) >> 16;
  return {static_cast<std::uint16_t>(hi),
          static_cast<std::int8_t>(static_cast<std::int32_t>(bits - (hi << 16)) >> 8)};
}

[[nodiscard]] inline float join_hi_lo_24(HiLo24 value) {
  return std::bit_cast<float>(
      (static_cast<std::uint32_t>(value.hi) << 16) +
      (static_cast<std::uint32_t>(static_cast<std::int32_t>(value.lo)) << 8));
}

// ---- fp16 ------------------------------------------------------------------------------------

[[nodiscard]] inline float from_fp16(std::uint16_t value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value & 0x8000) << 16;
  const std::uint32_t exponent = value & 0x7C00;
  const std::uint32_t mantissa = value & 0x03FF;
  std::uint32_t magnitude = 0;
  if (exponent == 0) {  // zero and subnormal: a multiple of 2^-24, exact in fp32
    magnitude = std::bit_cast<std::uint32_t>(static_cast<float>(mantissa) * 0x1p-24f);
  } else if (exponent == 0x7C00) {
    magnitude = 0x7F800000 | (mantissa << 13) | (mantissa != 0 ? 0x00400000 : 0);
  } else {
    magnitude = ((exponent | mantissa) << 13) + ((127u - 15u) << 23);
  }
  return std::bit_cast<float>(sign | magnitude);
}

/// Rounds to nearest, ties to even; 65520 and above become infinite.
[[nodiscard]] inline std::uint16_t to_fp16(float value) {
  constexpr std::uint32_t kTooLarge = 0x477FF000;        // 65520, half way to 2^16
  constexpr std::uint32_t kSmallestNormal = 0x38800000;  // 2^-14
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000;
  const std::uint32_t magnitude = bits & 0x7FFFFFFF;
  if (is_nan_bits(bits)) return 0x7E00;
  std::uint32_t rounded = 0;
  if (magnitude >= kTooLarge) {
    rounded = 0x7C00;
  } else if (magnitude < kSmallestNormal) {
    // Next to 0.5 the last bit of an fp32 is 2^-24, that of a subnormal fp16: the addition rounds.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    rounded = std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(0.5f);
  } else {
    const std::uint32_t lowest_kept_bit = (magnitude >> 13) & 1;
    rounded = (magnitude - ((127u - 15u) << 23) + 0x0FFF + lowest_kept_bit) >> 13;
  }
  return static_cast<std::uint16_t>(sign | rounded);
}

}  // namespace strata::optim_cpu
