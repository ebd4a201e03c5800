#include "strata/optim_cpu/adam.h"

#include "optim_cpu/kernel_table.h"

namespace strata::optim_cpu {

void adam_update(const AdamOptions& options, std::int64_t step, float gradient_scale,
                 const AdamSpan& span) {
  chosen_kernels().adam(AdamConstants(options, step, gradient_scale), span);
}

std::vector<std::string_view> kernel_targets() {
  std::vector<std::string_view> names;
  for (const KernelTable& table : supported_kernels()) names.push_back(table.target);
  return names;
}

std::string_view kernel_target() { return chosen_kernels().target; }

}  // namespace strata::optim_cpu
