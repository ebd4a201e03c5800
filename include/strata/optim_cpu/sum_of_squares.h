#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "strata/base/number_format.h"

/// \file
/// A sum of squares whose bits depend on the elements alone, not on how they are dealt out.

namespace strata::optim_cpu {

/// Number of elements whose squares are summed up in double before they join a SumOfSquares. A
/// shard, and a piece of one, begins at a multiple of it.
inline constexpr std::size_t kGradientBlockElements = kMomentBlockElements;

/// The sum of the squares of a vector of fp32 numbers, made of the sums of its blocks of
/// kGradientBlockElements elements.
///
/// The rule: a block's squares are exact in double and are added in double in a fixed order, which
/// knows only the block. The sums of blocks are then added exactly, in fixed point, and `value`
/// rounds once. Exact addition has no order: threads, pieces, shards and ranks may add what they
/// have in any order, and a vector has the same bits for every number of them. Only a block may not
/// be cut.
///
/// A plain value of 104 bytes without padding, which can be sent to another rank as it is.
class SumOfSquares {
 public:
  /// Adds the sum of a block: 0 or at least 2^-298 (the smallest square of an fp32), at most 2^300,
  /// or infinite, or NaN.
  void add(double block_sum);
  /// Adds another sum.
  void add(const SumOfSquares& other);

  /// The sum, rounded to nearest, ties to even. Infinite when an infinite block was added; NaN when
  /// one was NaN.
  [[nodiscard]] double value() const;
  /// Whether no value was Inf or NaN. Squares of finite fp32 never overflow a double.
  [[nodiscard]] bool finite() const { return infinities_ == 0 && nans_ == 0; }

  /// Whether both are the same sum, to the last bit of what was added.
  bool operator==(const SumOfSquares&) const = default;

 private:
  static constexpr std::size_t kWords = 11;

  void add_words(std::size_t at, std::uint64_t low, std::uint64_t high);

  std::array<std::uint64_t, kWords> words_{};  ///< a fixed-point number, lowest word first
  std::uint64_t infinities_ = 0;               ///< 1 when one was added
  std::uint64_t nans_ = 0;                     ///< 1 when one was added
};

}  // namespace strata::optim_cpu
