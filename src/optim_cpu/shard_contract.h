#pragma once

#include <span>

#include "strata/optim_cpu/window_pipeline.h"

namespace strata::optim_cpu {

/// Throws ConfigError unless windows made by `options` lie on the store's chunk grid, and its
/// formats are those of one optimizer.
void check_options(const WindowPipeline::Options& options, const tiering::ShardStore* store);

/// Throws UsageError unless every shard has one of the formats, and each of its states exactly the
/// home that the format and `options` call for; its segments cover it in order; and the groups are
/// of the optimizer whose moments the formats have.
void check_shards(const WindowPipeline::Options& options, const tiering::ShardStore* store,
                  std::span<const ShardStates> shards, std::span<const UpdateGroup> groups);

}  // namespace strata::optim_cpu
