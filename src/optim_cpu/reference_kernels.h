#pragma once

#include "optim_cpu/kernel_spans.h"
#include "optim_cpu/normal_numbers.h"
#include "optim_cpu/rule_constants.h"

/// \file
/// Every kernel written one number after the other: the oracle of the tests, the kernels of a
/// machine without fused multiply-adds, and the end of a span that is no multiple of two
/// vectors.

namespace strata::optim_cpu::reference {

void update(const AdamConstants& constants, const UpdateSpan& span);
void update(const SgdConstants& constants, const UpdateSpan& span);
void update(const AdagradConstants& constants, const UpdateSpan& span);
void update(const LionConstants& constants, const UpdateSpan& span);
void accumulate(const AccumulateSpan& span, double* block_sums);
void add_in_order(const AddSpan& span);
void normal_numbers(const NormalSpan& span);

}  // namespace strata::optim_cpu::reference
