#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "strata/base/number_format.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/optim_cpu/sum_of_squares.h"
#include "zero3/ranks/ranks.h"

/// \file
/// Makes the ranks' gradients one (hop 5, reduce): each rank gets the sum of all contributions to
/// its shard, added in rank order in fp32 and rounded once.

namespace strata::zero3 {

/// The home of a rank's sum.
struct GradientHome {
  Precision precision;  ///< format of the contributions
  bool fp32 = false;    ///< the home is fp32; else it has `precision`
  bool first = true;    ///< the home is overwritten; else added to
  std::span<std::byte> bytes;
};

/// A piece of every rank's shard on its way to the ranks that keep it.
///
/// Reduce-scatter as an all-to-all and a sum of one's own, which moves the same bytes: a library's
/// reduce-scatter of bf16 rounds after every addition, in an order that depends on the rank. Here a
/// world of N has the bits of one loop that adds the N contributions to an fp32 number in rank
/// order, then to the home, and rounds. With one rank that is the contribution itself, and nothing
/// is exchanged.
///
/// Thread: that of Ranks.
class Reduction {
 public:
  /// Begins to exchange. `packed` has this rank's gradients for a piece of each rank's shard, in
  /// rank order, all pieces of the same number of elements; `received` has its size. Both are lent
  /// until `finish` returns or the reduction is destroyed; with one rank `received` may be empty
  /// and is not written to. Throws what Ranks throws.
  Reduction(Ranks& ranks, std::span<const std::byte> packed, std::span<std::byte> received);

  /// Whether `finish` would not wait for other ranks.
  [[nodiscard]] bool arrived() const noexcept { return exchange_.done(); }

  /// Waits for the contributions, adds them up into `home` on all of `threads`, and returns the
  /// squares of what is in the home then. Call once. `home` has room for exactly a piece
  /// (UsageError otherwise, and nothing is changed). Throws what Collective::wait throws.
  optim_cpu::SumOfSquares finish(const GradientHome& home, optim_cpu::ComputeThreads& threads);

 private:
  std::size_t ranks_;
  std::span<const std::byte> contributions_;
  Collective exchange_;
};

/// The sum of all ranks' squares: the same bits on all of them, and as if one rank had the whole
/// vector, whatever their number, since exact addition knows no order (SumOfSquares). A
/// collective: all ranks come to it.
[[nodiscard]] optim_cpu::SumOfSquares sum_over(Ranks& ranks, const optim_cpu::SumOfSquares& own);

}  // namespace strata::zero3
