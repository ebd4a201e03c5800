#pragma once

#include <cstddef>
#include <cstdint>

/// \file
/// How a place in a sequence becomes a normal random number: what the reference and the vectors
/// share. Sources: strata/optim_cpu/normal_numbers.h.

namespace strata::optim_cpu {

/// The elements that normal_numbers works on: their places count modulo 2^32, and the keys tell one
/// such round of places, and one sequence, from another.
struct NormalSpan {
  std::uint32_t inner_key, outer_key;
  std::uint32_t first;
  float scale;  ///< deviation * sqrt(2)
  std::size_t count;
  float* numbers;
};

/// The square root of one half as bits: where a mantissa between that and the square root of two
/// begins.
inline constexpr std::int32_t kRootOfHalf = 0x3F3504F3;
inline constexpr float kLnTwoUpper = 0.693359375F, kLnTwoLower = -2.12194440e-4F;

/// ln(1 + f) = f - f * f / 2 + f^3 * polynomial of f, the highest power first (S. Moshier, Cephes,
/// logf).
inline constexpr float kLogarithm[] = {7.0376836292e-2F,  -1.1514610310e-1F, 1.1676998740e-1F,
                                       -1.2420140846e-1F, 1.4249322787e-1F,  -1.6668057665e-1F,
                                       2.0000714765e-1F,  -2.4999993993e-1F, 3.3333331174e-1F};

/// erfinv(x) / x for w = -ln(1 - x * x) below kTail as a polynomial of w - 2.5, and from there on
/// of sqrt(w) - 3; the highest power first (Giles, table 5).
inline constexpr float kTail = 5.0F;
inline constexpr float kCentre[] = {2.81022636e-08F,  3.43273939e-07F, -3.5233877e-06F,
                                    -4.39150654e-06F, 0.00021858087F,  -0.00125372503F,
                                    -0.00417768164F,  0.246640727F,    1.50140941F};
inline constexpr float kOutside[] = {-0.000200214257F, 0.000100950558F, 0.00134934322F,
                                     -0.00367342844F,  0.00573950773F,  -0.0076224613F,
                                     0.00943887047F,   1.00167406F,     2.83297682F};

}  // namespace strata::optim_cpu
