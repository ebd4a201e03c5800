#include "strata/optim_cpu/update.h"

#include "optim_cpu/kernel_table.h"

namespace strata::optim_cpu {

void update(const OptimizerOptions& options, const UpdateStep& step, const UpdateSpan& span) {
  chosen_kernels().update(constants_of(options, step), span);
}

std::vector<std::string_view> kernel_targets() {
  std::vector<std::string_view> names;
  for (const KernelTable& table : supported_kernels()) names.push_back(table.target);
  return names;
}

void force_kernel_target(std::string_view name) {
  force_kernels(name.empty() ? nullptr : &find_kernels(name, "\"simd\""));
}

std::string_view kernel_target() { return chosen_kernels().target; }

}  // namespace strata::optim_cpu
