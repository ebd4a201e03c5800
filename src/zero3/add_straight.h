#pragma once

#include <span>

#include "strata/optim_cpu/compute_threads.h"
#include "strata/optim_cpu/sum_of_squares.h"
#include "zero3/reduce.h"
#include "zero3/reduction.h"

namespace strata::zero3 {

/// Adds stretches of a gradient, one behind the other, to their home straight from where autograd
/// left them, in host memory: hops 5 and 6 in one pass, which sums up the squares too. One rank's;
/// it has the bits of packing, draining and adding.
///
/// The first stretch begins with a multiple of kGradientBlockElements, and so does each with
/// values; what the home holds between the end of such a one and the next multiple is zeros, unless
/// it is the first contribution. Together they have as many elements as `home.bytes`, and
/// `home.precision`. Returns the sum of the squares of what is in the home then.
[[nodiscard]] optim_cpu::SumOfSquares add_straight(std::span<const GradientStretch> stretches,
                                                   const GradientHome& home,
                                                   optim_cpu::ComputeThreads& threads);

}  // namespace strata::zero3
