#include "optim_cpu/shard_contract.h"

#include <algorithm>
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
  const std::uint64_t bytes = shard.count * state_bytes(shard.format, kind, shard.gradient_fp32);
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
    if (segment.group >= groups && segment.group != kNotUpdated)
      refuse(index, "group " + std::to_string(segment.group) + " of a segment does not exist");
    covered = segment.end;
  }
  if (covered != shard.count)
    refuse(index, "the segments end at element " + std::to_string(covered) + " of " +
                      std::to_string(shard.count));
}

/// What UpdateSpan asks for where rounding is random.
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

void check_groups(const StateFormat& format, std::span<const UpdateGroup> groups) {
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

void check_formats(std::span<const StateFormat> formats) {
  if (formats.empty())
    throw ConfigError("optimizer windows: no state format is given; name those of all shards");
  for (const StateFormat& format : formats)
    if (format.has_m != formats.front().has_m || format.has_v != formats.front().has_v)
      throw ConfigError(
          "optimizer windows: the state formats have different moments; one optimizer keeps the "
          "same ones for all shards");
}

/// Of all formats.
std::uint64_t smallest_state_bytes_of(std::span<const StateFormat> formats) {
  std::uint64_t smallest = smallest_state_bytes(formats.front());
  for (const StateFormat& format : formats)
    smallest = std::min(smallest, smallest_state_bytes(format));
  return smallest;
}

}  // namespace

void check_options(const WindowPipeline::Options& options, const tiering::ShardStore* store) {
  if (options.windows == 0 || options.window_elements == 0)
    throw ConfigError("optimizer windows: at least one window of at least one element is needed");
  check_formats(options.formats);
  const std::uint64_t smallest = smallest_state_bytes_of(options.formats);
  if (store != nullptr && options.window_elements * smallest % store->chunk_bytes() != 0)
    throw ConfigError("optimizer windows: " + std::to_string(options.window_elements) +
                      " elements of " + std::to_string(smallest) +
                      " bytes are no multiple of the store's chunk of " +
                      std::to_string(store->chunk_bytes()) + " bytes; choose a multiple of " +
                      std::to_string(store->chunk_bytes() / smallest) + " elements");
}

void check_shards(const WindowPipeline::Options& options, const tiering::ShardStore* store,
                  std::span<const ShardStates> shards, std::span<const UpdateGroup> groups) {
  check_groups(options.formats.front(), groups);
  for (std::size_t index = 0; index < shards.size(); ++index) {
    if (std::ranges::find(options.formats, shards[index].format) == options.formats.end())
      refuse(index, "its state format is none of those that the pipeline was made for");
    for (int kind = 0; kind < kStateKindCount; ++kind)
      check_home(options, store, shards[index], index, static_cast<StateKind>(kind));
    check_segments(shards[index], index, groups.size());
    check_blocks(shards[index], index);
  }
}

}  // namespace strata::optim_cpu
