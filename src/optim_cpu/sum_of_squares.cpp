#include "strata/optim_cpu/sum_of_squares.h"

#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "strata/base/error.h"

namespace strata::optim_cpu {
namespace {

constexpr int kWordBits = 64;
constexpr int kMantissaBits = 52;  // bits of a double, without the one in front
constexpr std::uint64_t kMantissa = (std::uint64_t{1} << kMantissaBits) - 1;

/// The lowest bit of the fixed-point number is worth 2^kLowest: no square of an fp32 has a bit
/// below 2^-298, and a double that is at least that has none below 2^-350.
constexpr int kLowest = -350;

/// A double is its 53 bits times 2^(exponent field - kBias).
constexpr int kBias = 1023 + kMantissaBits;

}  // namespace

void SumOfSquares::add(double block_sum) {
  if (!std::isfinite(block_sum)) [[unlikely]] {
    (std::isnan(block_sum) ? nans_ : infinities_) = 1;
    return;
  }
  if (block_sum == 0) return;
  const auto bits = std::bit_cast<std::uint64_t>(block_sum);
  const int lowest = static_cast<int>(bits >> kMantissaBits) - kBias - kLowest;
  STRATA_CHECK(lowest >= 0 && lowest < kWordBits * (static_cast<int>(kWords) - 1),
               "no sum of squares of fp32: " + std::to_string(block_sum));
  const std::uint64_t value = (bits & kMantissa) | (kMantissa + 1);
  const int shift = lowest % kWordBits;
  const std::uint64_t high = shift == 0 ? 0 : value >> (kWordBits - shift);
  add_words(static_cast<std::size_t>(lowest / kWordBits), value << shift, high);
}

void SumOfSquares::add_words(std::size_t at, std::uint64_t low, std::uint64_t high) {
  bool carry = __builtin_add_overflow(words_[at], low, &words_[at]);
  // `high` has at most 53 bits: the carry cannot overflow it.
  carry = __builtin_add_overflow(words_[at + 1], high + (carry ? 1 : 0), &words_[at + 1]);
  for (std::size_t i = at + 2; carry && i < kWords; ++i) carry = ++words_[i] == 0;
}

void SumOfSquares::add(const SumOfSquares& other) {
  bool carry = false;
  for (std::size_t i = 0; i < kWords; ++i) {
    const bool first = __builtin_add_overflow(words_[i], other.words_[i], &words_[i]);
    const bool second = __builtin_add_overflow(words_[i], carry ? 1u : 0u, &words_[i]);
    carry = first || second;
  }
  infinities_ |= other.infinities_;
  nans_ |= other.nans_;
}

double SumOfSquares::value() const {
  if (nans_ != 0) return std::numeric_limits<double>::quiet_NaN();
  if (infinities_ != 0) return std::numeric_limits<double>::infinity();
  std::size_t top = kWords - 1;
  while (top > 0 && words_[top] == 0) --top;
  // The uppermost 64 bits, their last one telling whether there is more below: enough to round by.
  std::uint64_t upper = words_[top];
  if (upper == 0) return 0.0;
  int exponent = kLowest + static_cast<int>(top) * kWordBits;
  std::uint64_t rest = 0;
  if (top > 0) {
    const int free = std::countl_zero(upper);
    const std::uint64_t next = words_[top - 1];
    if (free > 0) upper = upper << free | next >> (kWordBits - free);
    rest = next << free;
    exponent -= free;
    for (std::size_t i = 0; i + 1 < top; ++i) rest |= words_[i];
  }
  upper |= rest != 0 ? 1 : 0;
  return std::ldexp(static_cast<double>(upper), exponent);
}

}  // namespace strata::optim_cpu
