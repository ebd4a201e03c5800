#pragma once

#include <oneapi/tbb/task_arena.h>

#include <cstdint>
#include <span>

#include "optim_cpu/window.h"

namespace strata::optim_cpu {

/// What one optimizer step has in common for all parameters.
struct StepContext {
  Precision precision;
  std::span<const AdamOptions> groups;
  std::int64_t step;
  float gradient_scale;
};

/// Updates the elements of a window whose states are all in memory (hop 7, step), on all threads of
/// `threads`. Each element is updated by itself, so how the window is split does not show.
void update_window(const StepContext& context, const Window& window, tbb::task_arena& threads);

}  // namespace strata::optim_cpu
