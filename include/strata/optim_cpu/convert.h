#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "strata/base/number_format.h"
#include "strata/optim_cpu/compute_threads.h"

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

/// Elements whose squares `accumulate_gradient` sums up before it adds them to the total.
inline constexpr std::size_t kGradientBlockElements = 32768;

/// What `accumulate_gradient` learnt about the accumulated values.
struct GradientSums {
  double sum_of_squares = 0.0;  ///< of the values in `target` after the call; NaN or Inf if any was
  bool finite = true;           ///< no value in `target` is Inf or NaN
};

/// Adds a micro-batch's gradient to its home and sums up the squares of the result, in one pass.
/// `source`: count elements of the weight's format. `target`: fp32 when `target_fp32`, else the
/// weight's format. `first`: target is overwritten instead of added to. The addition is in fp32,
/// rounded to the target's format (to nearest, ties to even, as LibTorch adds). The norm and the
/// check for Inf and NaN cost no pass of their own. Runs on `threads`; the sums of fixed blocks of
/// kGradientBlockElements are added to `initial_sum` one after the other: the same bits whatever
/// the threads, the instruction set or the alignment. A gradient cut into pieces at multiples of
/// the block, each piece continuing the sum of the one before, gives the same sum as the whole at
/// once.
GradientSums accumulate_gradient(ComputeThreads& threads, Precision precision, bool target_fp32,
                                 bool first, std::size_t count, const void* source, void* target,
                                 double initial_sum = 0.0);

}  // namespace strata::optim_cpu
