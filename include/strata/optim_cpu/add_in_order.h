#pragma once

#include <cstddef>
#include <span>

#include "strata/base/number_format.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/optim_cpu/instruction_set.h"

namespace strata::optim_cpu {

/// Adds gradients of several micro-batches to their sum, in one pass over it: element by element
///
///     sum + gradients[0] + gradients[1] + ...    from left to right in fp32
///
/// so the bits are those of one pass for each of them. With `is_first` there is no sum yet: it
/// begins with gradients[0] as that is. All is read and written in full elements of `block`:
/// `gradients` are numbers in the weight format of `precision`, at any alignment, at least one with
/// `is_first`; `sum` is fp32, and no gradient lies in its memory. Gives the same bits on every
/// instruction set. Thread: works on the caller's; calls for blocks apart from one another may be
/// made at the same time.
void add_in_order(InstructionSet instructions, Precision precision,
                  std::span<const void* const> gradients, bool is_first, Block block, float* sum);

}  // namespace strata::optim_cpu
