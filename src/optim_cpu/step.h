#pragma once

#include <cstdint>
#include <span>

#include "optim_cpu/kernel_table.h"
#include "optim_cpu/window.h"
#include "strata/optim_cpu/compute_threads.h"

namespace strata::optim_cpu {

/// What one optimizer step has in common for all parameters.
struct StepContext {
  std::span<const RuleConstants> groups;
  const KernelTable& kernels;
};

/// Updates the elements of a window whose states are all in memory (hop 7, step), on all of
/// `threads`. Each element (each block of int8 moments) is updated by itself, so how the window is
/// split does not show.
void update_window(const StepContext& context, const Window& window, ComputeThreads& threads);

}  // namespace strata::optim_cpu
