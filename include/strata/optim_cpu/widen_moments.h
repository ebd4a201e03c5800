#pragma once

#include <span>

#include "strata/base/number_format.h"

namespace strata::optim_cpu {

/// The fp32 values of moments that rest in `format`; `kind` is kM or kV, which blocks of int8 code
/// differently. `moments` points to the first of `values.size()` elements, which with kInt8 begins
/// a block; of a last block that is not whole all 64 codes are there.
void widen_moments(MomentFormat format, StateKind kind, const void* moments,
                   std::span<float> values);

}  // namespace strata::optim_cpu
