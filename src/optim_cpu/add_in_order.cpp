#include "strata/optim_cpu/add_in_order.h"

#include "optim_cpu/kernel_table.h"

namespace strata::optim_cpu {

void add_in_order(InstructionSet instructions, Precision precision,
                  std::span<const void* const> gradients, bool is_first, Block block, float* sum) {
  instructions.kernels().add_in_order({.precision = precision,
                                       .is_first = is_first,
                                       .begin = block.begin,
                                       .end = block.end,
                                       .gradients = gradients,
                                       .sum = sum});
}

}  // namespace strata::optim_cpu
