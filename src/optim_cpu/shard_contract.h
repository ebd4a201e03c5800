#pragma once

#include <span>

#include "strata/optim_cpu/window_pipeline.h"

namespace strata::optim_cpu {

/// Throws ConfigError unless windows made by `options` lie on the store's chunk grid.
void check_options(const WindowPipeline::Options& options, const tiering::ShardStore* store);

/// Throws UsageError unless every state of every shard has exactly the home that its format and
/// `options` call for, and segments cover each shard in order.
void check_shards(const WindowPipeline::Options& options, const tiering::ShardStore* store,
                  std::span<const ShardStates> shards, std::span<const OptimizerOptions> groups);

}  // namespace strata::optim_cpu
