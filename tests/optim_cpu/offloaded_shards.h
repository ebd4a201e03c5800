#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <tuple>
#include <vector>

#include "optim_cpu/kernel_spans.h"
#include "optim_cpu/state_arrays.h"
#include "strata/aio/io_channel.h"
#include "strata/aio/io_queue.h"
#include "strata/base/units.h"
#include "strata/optim_cpu/window_pipeline.h"
#include "strata/tiering/host_arena.h"
#include "strata/tiering/movement.h"
#include "strata/tiering/shard_store.h"
#include "support/simulated_disk.h"
#include "support/temp_directory.h"

namespace strata::optim_cpu {

/// The nvme tier of a test: a store in a directory of its own, and extents in it.
class TestStore {
 public:
  static constexpr std::uint64_t kChunk = 4096;

  explicit TestStore(const aio::IoQueueOptions& options)
      : queue_(std::in_place, options, directory_.path(), log_),
        store_({.directories = {directory_.path()}, .chunk_bytes = kChunk}, *queue_, nvme_,
               counters_) {}
  /// On a simulated disk in real time: any threads.
  explicit TestStore(std::shared_ptr<aio::SimulatedDisk> disk)
      : queue_(std::in_place, aio::IoQueueOptions{.operations_max = 64},
               aio::make_backend(std::move(disk)), log_),
        store_({.directories = {directory_.path()}, .chunk_bytes = kChunk}, *queue_, nvme_,
               counters_) {}
  /// On a simulated disk: one thread, in the disk's time, which `clock` tells.
  TestStore(std::shared_ptr<aio::SimulatedDisk> disk, const Clock& clock,
            std::uint32_t operations_max = 64)
      : counters_(clock),
        channel_(std::in_place,
                 aio::IoQueueOptions{.operations_max = operations_max, .clock = &clock},
                 aio::make_backend(std::move(disk)), log_),
        store_({.directories = {directory_.path()}, .chunk_bytes = kChunk}, *channel_, nvme_,
               counters_) {}

  [[nodiscard]] tiering::ShardStore& store() { return store_; }
  [[nodiscard]] Counters& counters() { return counters_; }

  /// The extent of a state; the same each time for the same shard, kind and size.
  tiering::Extent extent(std::size_t shard, StateKind kind, std::uint64_t bytes) {
    const auto [found, is_new] = extents_.try_emplace({shard, kind, bytes});
    if (is_new) found->second = store_.allocate(bytes, name_of(kind));
    return found->second;
  }

  void write(tiering::Extent extent, std::span<const std::byte> bytes) {
    std::ranges::copy(bytes, buffer_.begin());
    flush(store_, extent, {0, extent.bytes}, buffer_).value().wait();
  }

  std::vector<std::byte> read(tiering::Extent extent) {
    fetch(store_, extent, {0, extent.bytes}, buffer_).value().wait();
    return {buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(extent.bytes)};
  }

 private:
  support::TempDirectory directory_;
  std::ostringstream log_text_;
  Logger log_{log_text_};
  Counters counters_;
  tiering::Budget host_{tiering::Tier::kHost};
  tiering::Budget nvme_{tiering::Tier::kNvme};
  tiering::HostArena arena_{host_, 4_MiB, log_};
  std::span<std::byte> buffer_ = arena_.take(1_MiB, "a test's buffer");
  std::optional<aio::IoQueue> queue_;  // one of the two
  std::optional<aio::IoChannel> channel_;
  tiering::ShardStore store_;
  std::map<std::tuple<std::size_t, StateKind, std::uint64_t>, tiering::Extent> extents_;
};

/// Groups that all make the same step.
inline std::vector<UpdateGroup> at_step(std::span<const OptimizerOptions> groups,
                                        const UpdateStep& step = {}) {
  std::vector<UpdateGroup> updates;
  for (const OptimizerOptions& group : groups) updates.push_back({group, step});
  return updates;
}

/// Shards longer than a window, of exactly two, and shorter than a chunk, with
/// two groups of parameters in changing segments. Of whole blocks where rounding is random.
class TestShards {
 public:
  TestShards(const StateFormat& format, bool gradient_fp32,
             std::vector<OptimizerOptions> groups = adam_groups())
      : gradient_fp32_(gradient_fp32),
        grid_(format.is_stochastic() ? kBlock : 1),
        groups_(std::move(groups)) {
    for (const std::size_t wanted : {5003u, 100u, 8192u, 1u}) {
      const std::size_t count = round_up(wanted, grid_);
      arrays_.emplace_back(format, gradient_fp32 ? Precision::kFp32 : format.precision, count);
      arrays_.back().fill_plausibly(count);
      segments_.push_back(segments_of(count));
    }
  }

  [[nodiscard]] std::vector<StateArrays>& arrays() { return arrays_; }
  [[nodiscard]] const std::vector<StateArrays>& arrays() const { return arrays_; }

  /// The groups that the segments name.
  [[nodiscard]] const std::vector<OptimizerOptions>& groups() const { return groups_; }

  [[nodiscard]] static std::vector<OptimizerOptions> adam_groups() {
    return {AdamOptions{.lr = 1e-2, .weight_decay = 0.1},
            AdamOptions{.lr = 3e-3, .beta1 = 0.8, .weight_decay = 0.0}};
  }

  /// Gives the segments of each shard these groups, over and over.
  void set_groups_of_segments(std::span<const std::uint32_t> cycle) {
    for (std::vector<Segment>& segments : segments_)
      for (std::size_t i = 0; i < segments.size(); ++i) segments[i].group = cycle[i % cycle.size()];
  }

  /// Makes room for that many other shards in the same run.
  void number_from(std::size_t first) { first_ = first; }

  /// What the pipeline is to do, done by the reference to each segment as a whole.
  void step_by_reference(std::span<const UpdateGroup> groups) {
    for (std::size_t i = 0; i < arrays_.size(); ++i)
      for (const Segment& segment : segments_[i]) {
        if (segment.group == kNotUpdated) continue;
        UpdateSpan span = arrays_[i].span();
        span.sequence = first_ + i;
        update_reference(groups[segment.group].options, groups[segment.group].step,
                         part_of(span, segment.begin, segment.end - segment.begin));
      }
  }

  void set_gradients(std::uint64_t seed) {
    for (StateArrays& shard : arrays_) shard.fill_gradient_plausibly(seed++);
  }

  /// Describes the shards with all states in their memory, but `on_nvme` in `store`, where they are
  /// written to.
  std::vector<ShardStates> place(const std::set<StateKind>& on_nvme, TestStore* store) {
    std::vector<ShardStates> placed;
    for (std::size_t i = 0; i < arrays_.size(); ++i) {
      ShardStates shard;
      shard.count = arrays_[i].count();
      shard.format = arrays_[i].format();
      shard.gradient_fp32 = gradient_fp32_;
      shard.sequence = first_ + i;
      const auto home = [&](StateKind kind) -> tiering::StateHome {
        const std::span<std::byte> bytes = arrays_[i].bytes(kind);
        if (!on_nvme.contains(kind) || bytes.empty()) return {.memory = bytes};
        const tiering::Extent extent = store->extent(first_ + i, kind, bytes.size());
        store->write(extent, bytes);
        return {.extent = extent};
      };
      shard.weight = home(StateKind::kWeight);
      shard.master = home(StateKind::kMaster);
      shard.m = home(StateKind::kM);
      shard.v = home(StateKind::kV);
      shard.gradient = home(StateKind::kGradient);
      shard.segments = segments_[i];
      placed.push_back(shard);
    }
    return placed;
  }

  /// Brings the states on nvme back into the shards' memory.
  void collect(std::span<const ShardStates> placed, TestStore& store) {
    for (std::size_t i = 0; i < placed.size(); ++i) {
      const std::array homes = {placed[i].weight, placed[i].master, placed[i].m, placed[i].v,
                                placed[i].gradient};
      for (const StateKind kind : kStateKinds)
        if (const auto& extent = homes[static_cast<std::size_t>(kind)].extent)
          std::ranges::copy(store.read(*extent), arrays_[i].bytes(kind).begin());
    }
  }

 private:
  [[nodiscard]] std::vector<Segment> segments_of(std::uint64_t count) const {
    std::vector<Segment> segments;
    std::uint32_t group = 0;
    for (std::uint64_t begin = 0, length = 37; begin < count; length = length * 3 + 1) {
      const std::uint64_t end = std::min(round_up(begin + length, grid_), count);
      segments.push_back({begin, end, group});
      begin = end;
      group = 1 - group;
    }
    return segments;
  }

  bool gradient_fp32_;
  std::uint64_t grid_;
  std::size_t first_ = 0;  // number of the first shard in a run
  std::vector<OptimizerOptions> groups_;
  std::vector<StateArrays> arrays_;
  std::vector<std::vector<Segment>> segments_;
};

inline ::testing::AssertionResult same_bits(const TestShards& left, const TestShards& right) {
  for (std::size_t i = 0; i < left.arrays().size(); ++i) {
    const ::testing::AssertionResult same = same_bits(left.arrays()[i], right.arrays()[i]);
    if (!same) return ::testing::AssertionFailure() << "shard " << i << ": " << same.message();
  }
  return ::testing::AssertionSuccess();
}

[[nodiscard]] inline std::set<StateKind> every_kind() {
  return {kStateKinds.begin(), kStateKinds.end()};
}

/// The smallest windows over a TestStore, for states and gradients of any home.
[[nodiscard]] inline WindowPipeline::Options smallest_windows(const StateFormat& format) {
  return {.formats = {format}, .window_elements = TestStore::kChunk, .gradients_on_nvme = true};
}

}  // namespace strata::optim_cpu
