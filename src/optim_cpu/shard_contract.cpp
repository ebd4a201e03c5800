#include "optim_cpu/shard_contract.h"

#include <string>

#include "optim_cpu/window.h"
#include "strata/base/error.h"

namespace strata::optim_cpu {
namespace {

[[noreturn]] void refuse(std::size_t shard, const std::string& what) {
  throw UsageError("optimizer step: shard " + std::to_string(shard) + ": " + what);
}

void check_home(const WindowPipeline::Options& options, const tiering::ShardStore* store,
                const ShardStates& shard, std::size_t index, StateKind kind) {
  const StateHome& home = home_of(shard, kind);
  const std::string name(name_of(kind));
  const std::uint64_t bytes = shard.count * state_bytes(options.format, kind, shard.gradient_fp32);
  if (home.extent && !home.memory.empty()) refuse(index, name + " rests in two places");
  const std::uint64_t held = home.extent ? home.extent->bytes : home.memory.size();
  if (held != bytes)
    refuse(index, name + " has " + std::to_string(held) + " bytes where " +
                      std::to_string(shard.count) + " elements take " + std::to_string(bytes));
  if (home.extent && store == nullptr)
    refuse(index, name + " rests on nvme, but the pipeline was made without a shard store");
  if (home.extent && kind == StateKind::kGradient && !options.gradients_on_nvme)
    refuse(index, "the gradient rests on nvme; make the pipeline with gradients_on_nvme");
}

void check_segments(const ShardStates& shard, std::size_t index, std::size_t groups) {
  std::uint64_t covered = 0;
  for (const Segment& segment : shard.segments) {
    if (segment.begin != covered || segment.end <= segment.begin || segment.end > shard.count)
      refuse(index, "the segment [" + std::to_string(segment.begin) + ", " +
                        std::to_string(segment.end) + ") does not continue at element " +
                        std::to_string(covered));
    if (segment.group >= groups)
      refuse(index, "group " + std::to_string(segment.group) + " of a segment does not exist");
    covered = segment.end;
  }
  if (covered != shard.count)
    refuse(index, "the segments end at element " + std::to_string(covered) + " of " +
                      std::to_string(shard.count));
}

/// What UpdateSpan asks for where rounding is random.
void check_blocks(const StateFormat& format, const ShardStates& shard, std::size_t index) {
  const auto check = [&](std::uint64_t element, const std::string& what) {
    if (element % kMomentBlockElements == 0) return;
    refuse(index, what + " element " + std::to_string(element) + ", which is no multiple of " +
                      std::to_string(kMomentBlockElements) + " as its state format asks for");
  };
  if (!format.is_stochastic()) return;
  for (const Segment& segment : shard.segments) check(segment.begin, "a segment begins at");
  if (format.moments == MomentFormat::kInt8) check(shard.count, "it ends at");
}

void check_groups(const StateFormat& format, std::span<const OptimizerOptions> groups) {
  for (const OptimizerOptions& group : groups) {
    if (group.index() != groups.front().index())
      throw UsageError("optimizer step: the groups are of different optimizers");
    if (optim::keeps_m(group) != format.has_m || optim::keeps_v(group) != format.has_v)
      throw UsageError("optimizer step: the optimizer keeps other moments than the format has");
  }
}

}  // namespace

void check_options(const WindowPipeline::Options& options, const tiering::ShardStore* store) {
  if (options.windows == 0 || options.window_elements == 0)
    throw ConfigError("optimizer windows: at least one window of at least one element is needed");
  const std::uint64_t smallest = smallest_state_bytes(options.format);
  if (store != nullptr && options.window_elements * smallest % store->chunk_bytes() != 0)
    throw ConfigError("optimizer windows: " + std::to_string(options.window_elements) +
                      " elements of " + std::to_string(smallest) +
                      " bytes are no multiple of the store's chunk of " +
                      std::to_string(store->chunk_bytes()) + " bytes; choose a multiple of " +
                      std::to_string(store->chunk_bytes() / smallest) + " elements");
}

void check_shards(const WindowPipeline::Options& options, const tiering::ShardStore* store,
                  std::span<const ShardStates> shards, std::span<const OptimizerOptions> groups) {
  check_groups(options.format, groups);
  for (std::size_t index = 0; index < shards.size(); ++index) {
    for (int kind = 0; kind < kStateKindCount; ++kind)
      check_home(options, store, shards[index], index, static_cast<StateKind>(kind));
    check_segments(shards[index], index, groups.size());
    check_blocks(options.format, shards[index], index);
  }
}

}  // namespace strata::optim_cpu
