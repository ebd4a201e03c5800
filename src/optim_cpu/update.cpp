#include "strata/optim_cpu/update.h"

#include "optim_cpu/kernel_table.h"

namespace strata::optim_cpu {

void update(const OptimizerOptions& options, const UpdateStep& step, const UpdateSpan& span,
            InstructionSet instructions) {
  instructions.kernels().update(constants_of(options, step), span);
}

}  // namespace strata::optim_cpu
