#pragma once

#include <string>

#include "strata/base/machine_memory.h"
#include "strata/formats/ds_config.h"
#include "strata/models/micro_batch.h"
#include "strata/models/model_config.h"

namespace strata::tool {

/// What "recompute": "auto" comes to in a run.
struct RecomputeChoice {
  bool recomputes = true;
  std::string why;  ///< a line for people, with the figures
};

/// To keep activations costs memory and nothing else, so they are kept where a run has memory for
/// them beside its tiers: a quarter more than they are estimated at, of what `memory` has available
/// and the plan leaves. Without an accelerator. Throws what make_plan throws.
[[nodiscard]] RecomputeChoice choose_recompute(const formats::DsConfig& config,
                                               const models::ModelConfig& model,
                                               const models::MicroBatch& micro_batch,
                                               const HostMemoryBound& memory);

}  // namespace strata::tool
