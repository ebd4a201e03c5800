#pragma once

#include "optim_cpu/adam_constants.h"
#include "optim_cpu/kernel_spans.h"

/// \file
/// Every kernel written one number after the other: the oracle of the tests, the kernels of a
/// machine without fused multiply-adds, and what finishes a span that is no multiple of a vector.

namespace strata::optim_cpu::reference {

void adam(const AdamConstants& constants, const AdamSpan& span);
void accumulate(const AccumulateSpan& span, SumLanes& lanes);

}  // namespace strata::optim_cpu::reference
