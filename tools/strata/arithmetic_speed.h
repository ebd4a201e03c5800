#pragma once

#include "machine_here.h"

namespace strata::tool {

/// Measures forward and backward of a model of the task's shape in memory, in the run's precision,
/// as LibTorch's threads do them in a run: tensors come from a TensorPool, which must be the
/// process's only one. Gradients of several micro-batches are added up in fp32 after each.
///
/// A model of one block and one of more are timed in turns; each block in between costs the
/// difference's part. So a model of any depth is measured at its own width. The larger one has as
/// many blocks as half a second a pass and the task's memory allow. Where even one block is too
/// much, first sequences, then their length are halved for time, and heads for memory; the source
/// says what it came to. Throws BudgetError where no shape fits, and what `check` throws.
[[nodiscard]] zero3::SourcedNumber measure_arithmetic(const ArithmeticTask& task,
                                                      const Check& check);

}  // namespace strata::tool
