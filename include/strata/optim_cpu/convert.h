#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "strata/base/number_format.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/optim_cpu/instruction_set.h"
#include "strata/optim_cpu/sum_of_squares.h"

namespace strata::optim_cpu {

/// Splits fp32 masters into the stored weight and remainder of `format` (number_format.h).
/// `weight` and `master` point to masters.size() elements of the formats given there; `master` may
/// be null where the remainder is not kept (fp32; frozen parameters, whose weight is then the
/// rounded value). Rounding: kBf16 to nearest, ties away from zero, and before that the master to
/// its upper 24 bits with k24Bit; kFp16 to nearest, ties to even. NaN stays NaN.
void split_master(const StateFormat& format, std::span<const float> masters, void* weight,
                  void* master);

/// The inverse: restores the fp32 masters, exactly those that were split but for k24Bit. `master`
/// null: widens the weights.
void join_master(const StateFormat& format, const void* weight, const void* master,
                 std::span<float> masters);

/// Contributions of several ranks to the same elements, one after the other in memory.
struct Contributions {
  /// Converts from the contribution of a single rank.
  constexpr Contributions(const void* of_rank_0,  // NOLINT(google-explicit-constructor)
                          std::size_t rank_count = 1, std::uint64_t stride_bytes = 0)
      : first(of_rank_0), ranks(rank_count), stride(stride_bytes) {}

  const void* first;
  std::size_t ranks;     ///< at least 1
  std::uint64_t stride;  ///< bytes from the contribution of one rank to that of the next
};

/// Adds a micro-batch's gradient to its home and sums up the squares of the result, in one pass.
///
/// `contributions`: count elements of the weight's format from each rank. `target`: fp32 when
/// `target_fp32`, else the weight's format. `first`: target is overwritten instead of added to.
/// The contributions are added in rank order in fp32, their sum to the target in fp32, and the
/// result is rounded once to the target's format (to nearest, ties to even, as LibTorch adds). So
/// the ranks together have the bits of one loop that adds their gradients in turn.
///
/// Returns the sum of squares of the new `target`, which also tells whether a value is Inf or NaN;
/// the norm costs no pass of its own. Runs on `threads`; gives the same bits whatever the threads,
/// the instruction set or the alignment. If a vector is cut into pieces or shards at multiples of
/// kGradientBlockElements, its sum is the sum of theirs, to the bit (SumOfSquares).
SumOfSquares accumulate_gradient(ComputeThreads& threads, Precision precision, bool target_fp32,
                                 bool first, std::size_t count, const Contributions& contributions,
                                 void* target);

/// Does the same on the caller's thread, for callers that deal out the elements themselves: calls
/// for targets apart from one another may be made at the same time.
SumOfSquares accumulate_gradient(InstructionSet instructions, Precision precision, bool target_fp32,
                                 bool first, std::size_t count, const Contributions& contributions,
                                 void* target);

}  // namespace strata::optim_cpu
