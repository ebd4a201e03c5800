#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "strata/base/number_format.h"
#include "strata/optim_cpu/update.h"
#include "strata/tiering/state_home.h"

/// \file
/// The optimizer's vocabulary for parameters: numbers and where they rest, nothing of modules or
/// ranks.

namespace strata::optim_cpu {

/// Hyperparameters, and a step count of its own, for a run of elements in one step. A parameter
/// without a gradient in some steps has made fewer steps than the others.
struct UpdateGroup {
  OptimizerOptions options;
  UpdateStep step;
};

/// The group of elements that rest in this step. Their weight, master, m and v stay bit for bit as
/// they are; their gradient is not looked at.
inline constexpr std::uint32_t kNotUpdated = UINT32_MAX;

/// A run of consecutive elements of a shard that are updated alike.
struct Segment {
  std::uint64_t begin = 0, end = 0;  ///< elements
  std::uint32_t group = 0;           ///< index into the groups of the step, or kNotUpdated
};

/// One trainable shard as the optimizer sees it.
struct ShardStates {
  std::uint64_t count = 0;  ///< elements, padding included
  StateFormat format;       ///< one of those that the pipeline was made for
  /// Whether the gradient home is fp32 (accumulated); else it has the weight's format.
  bool gradient_fp32 = false;
  /// Keys of random rounding, with the element's place in its vector: a vector has the same bits
  /// however many shards it is cut into. `sequence` differs from vector to vector and is the same
  /// for all shards of one. `first_element` is the shard's place in its vector; where rounding is
  /// random, a multiple of kMomentBlockElements.
  std::uint64_t sequence = 0;
  std::uint64_t first_element = 0;
  tiering::StateHome weight, master, m, v, gradient;
  /// Segments in order, covering [0, count), counted from the shard's first element. With random
  /// rounding they begin at multiples of kMomentBlockElements; int8 moments need such a `count`.
  std::vector<Segment> segments;
  /// The name of its unit in recordings (base/timeline.h); may be empty. Lives as long as the
  /// shard.
  std::string_view name = {};
};

[[nodiscard]] const tiering::StateHome& home_of(const ShardStates& shard, StateKind kind);

/// Requirements on the shards and groups of a step.
struct ShardRules {
  std::span<const StateFormat> formats;  ///< at least one; all have the same moments
  bool on_nvme = false;                  ///< states may rest on nvme: there is a shard store
  bool on_device = false;                ///< states may rest where host code cannot touch them
  bool gradients_on_nvme = false;        ///< the gradient may rest there too
};

/// Throws UsageError unless all groups belong to one optimizer, the one whose moments the formats
/// have.
void check_groups(const ShardRules& rules, std::span<const UpdateGroup> groups);

/// Throws UsageError unless the shard has one of the formats, its states have exactly the homes
/// that format and rules call for, and its segments cover it in order. `index` names it in the
/// message.
void check_shard(const ShardRules& rules, const ShardStates& shard, std::size_t index,
                 std::size_t group_count);

}  // namespace strata::optim_cpu
