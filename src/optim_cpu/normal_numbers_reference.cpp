#include <bit>
#include <cmath>
#include <span>

#include "optim_cpu/dither.h"
#include "optim_cpu/normal_numbers.h"
#include "optim_cpu/reference_kernels.h"

namespace strata::optim_cpu {

namespace {

float polynomial(std::span<const float> factors, float x) {
  float value = factors.front();
  for (const float factor : factors.subspan(1)) value = std::fma(value, x, factor);
  return value;
}

float logarithm(float value) {
  const auto bits = std::bit_cast<std::int32_t>(value);
  const std::int32_t exponent = (bits - kRootOfHalf) >> 23;
  const float f = std::bit_cast<float>(bits - (exponent << 23)) - 1.0F;
  const auto e = static_cast<float>(exponent);
  const float square = f * f;
  float sum = polynomial(kLogarithm, f) * (f * square);
  sum = std::fma(e, kLnTwoLower, sum);
  sum = std::fma(square, -0.5F, sum);
  return std::fma(e, kLnTwoUpper, sum + f);
}

float normal_number(std::uint32_t bits, float scale) {
  const float x = (static_cast<float>(std::bit_cast<std::int32_t>(bits) >> 8) + 0.5F) * 0x1p-23F;
  const float w = -logarithm((1.0F - x) * (1.0F + x));
  const float slope =
      w < kTail ? polynomial(kCentre, w - 2.5F) : polynomial(kOutside, std::sqrt(w) - 3.0F);
  return slope * x * scale;
}

}  // namespace

void reference::normal_numbers(const NormalSpan& span) {
  for (std::size_t i = 0; i < span.count; ++i) {
    const std::uint32_t place = span.first + static_cast<std::uint32_t>(i);
    span.numbers[i] =
        normal_number(mixed_bits(mixed_bits(place ^ span.inner_key) ^ span.outer_key), span.scale);
  }
}

}  // namespace strata::optim_cpu
