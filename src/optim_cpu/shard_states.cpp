#include "strata/optim_cpu/shard_states.h"

#include <algorithm>
#include <string>

#include "strata/base/error.h"

namespace strata::optim_cpu {
namespace {

[[noreturn]] void refuse(std::size_t shard, const std::string& what) {
  throw UsageError("optimizer step: shard " + std::to_string(shard) + ": " + what);
}

void check_home(const ShardRules& rules, const ShardStates& shard, std::size_t index,
                StateKind kind) {
  const tiering::StateHome& home = home_of(shard, kind);
  const std::string name(name_of(kind));
  const std::uint64_t bytes = shard.count * state_bytes(shard.format, kind, shard.gradient_fp32);
  if (home.extent && (!home.memory.empty() || !home.device.empty()))
    refuse(index, name + " rests in two places");
  const std::uint64_t held = home.extent           ? home.extent->bytes
                             : home.memory.empty() ? home.device.bytes()
                                                   : home.memory.size();
  if (held != bytes)
    refuse(index, name + " has " + std::to_string(held) + " bytes where " +
                      std::to_string(shard.count) + " elements take " + std::to_string(bytes));
  if (home.extent && !rules.on_nvme)
    refuse(index, name + " rests on nvme, but the pipeline was made without a shard store");
  if (home.is_elsewhere() && !home.extent && !rules.on_device)
    refuse(index, name + " rests on a device, but the pipeline was made without one");
  if (home.extent && kind == StateKind::kGradient && !rules.gradients_on_nvme)
    refuse(index, "the gradient rests on nvme; make the pipeline with gradients_on_nvme");
}

void check_segments(const ShardStates& shard, std::size_t index, std::size_t groups) {
  std::uint64_t covered = 0;
  for (const Segment& segment : shard.segments) {
    if (segment.begin != covered || segment.end <= segment.begin || segment.end > shard.count)
      refuse(index, "the segment [" + std::to_string(segment.begin) + ", " +
                        std::to_string(segment.end) + ") does not continue at element " +
                        std::to_string(covered));
    if (segment.group >= groups && segment.group != kNotUpdated)
      refuse(index, "group " + std::to_string(segment.group) + " of a segment does not exist");
    covered = segment.end;
  }
  if (covered != shard.count)
    refuse(index, "the segments end at element " + std::to_string(covered) + " of " +
                      std::to_string(shard.count));
}

/// Checks what UpdateSpan asks for where rounding is random.
void check_blocks(const ShardStates& shard, std::size_t index) {
  const StateFormat& format = shard.format;
  const auto check = [&](std::uint64_t element, const std::string& what) {
    if (element % kMomentBlockElements == 0) return;
    refuse(index, what + " element " + std::to_string(element) + ", which is no multiple of " +
                      std::to_string(kMomentBlockElements) + " as its state format asks for");
  };
  if (!format.is_stochastic()) return;
  check(shard.first_element, "its place in its vector is");
  for (const Segment& segment : shard.segments) check(segment.begin, "a segment begins at");
  if (format.moments == MomentFormat::kInt8) check(shard.count, "it ends at");
}

}  // namespace

const tiering::StateHome& home_of(const ShardStates& shard, StateKind kind) {
  switch (kind) {
    case StateKind::kWeight: return shard.weight;
    case StateKind::kMaster: return shard.master;
    case StateKind::kM: return shard.m;
    case StateKind::kV: return shard.v;
    case StateKind::kGradient: break;
  }
  return shard.gradient;
}

void check_groups(const ShardRules& rules, std::span<const UpdateGroup> groups) {
  const StateFormat& format = rules.formats.front();
  for (const UpdateGroup& group : groups) {
    if (group.options.index() != groups.front().options.index())
      throw UsageError("optimizer step: the groups are of different optimizers");
    if (optim::keeps_m(group.options) != format.has_m ||
        optim::keeps_v(group.options) != format.has_v)
      throw UsageError("optimizer step: the optimizer keeps other moments than the format has");
    if (group.step.step < 1)
      throw UsageError("optimizer step: a group is at step " + std::to_string(group.step.step) +
                       "; steps count from 1");
  }
}

void check_shard(const ShardRules& rules, const ShardStates& shard, std::size_t index,
                 std::size_t group_count) {
  if (std::ranges::find(rules.formats, shard.format) == rules.formats.end())
    refuse(index, "its state format is none of those that the pipeline was made for");
  for (int kind = 0; kind < kStateKindCount; ++kind)
    check_home(rules, shard, index, static_cast<StateKind>(kind));
  check_segments(shard, index, group_count);
  check_blocks(shard, index);
}

}  // namespace strata::optim_cpu
