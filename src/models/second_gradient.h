#pragma once

#include <torch/torch.h>

#include <string>

#include "strata/base/error.h"

namespace strata::models {

/// Throws UsageError in the backward of `function` where a gradient of its gradient is wanted: what
/// it computes there is not recorded, and LibTorch would take it for a constant.
inline void refuse_second_gradient(const char* function) {
  if (!torch::GradMode::is_enabled()) return;
  throw UsageError(std::string("a gradient of a gradient (create_graph) was asked for through ") +
                   function + ", which does not exist: what its backward gives is not recorded");
}

}  // namespace strata::models
