#pragma once

#include <cerrno>
#include <span>

#include "strata/base/error.h"
#include "strata/optim_cpu/window_pipeline.h"

namespace strata::optim_cpu {

/// Makes a step of all shards at once. Throws what the pipeline throws, and DeadlineExceeded where
/// transfers of others leave it no room.
inline void run_step(WindowPipeline& pipeline, std::span<const ShardStates> shards,
                     std::span<const UpdateGroup> groups) {
  pipeline.begin(groups);
  bool goes_on = true;
  for (const ShardStates& shard : shards)
    while (goes_on && !pipeline.offer(shard)) goes_on = pipeline.advance();
  if (goes_on && pipeline.finish()) return;
  throw DeadlineExceeded("others fill the I/O queue", ETIMEDOUT);
}

}  // namespace strata::optim_cpu
