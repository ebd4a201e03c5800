#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "optim_cpu/offloaded_shards.h"
#include "optim_cpu/step_tools.h"
#include "strata/optim_cpu/window_pipeline.h"

namespace strata::optim_cpu {

/// Takes up room of a store, as weights do that an engine fetches meanwhile.
class OtherTransfers {
 public:
  explicit OtherTransfers(TestStore& store)
      : store_(store.store()), extent_(store_.allocate(TestStore::kChunk, "prefetched")) {}

  /// False: the queue is full.
  bool start_one(tiering::HostArena& arena) {
    if (free_.empty()) free_.push_back(arena.take(TestStore::kChunk, "a prefetched shard"));
    auto transfer = fetch(store_, extent_, {0, TestStore::kChunk}, free_.back());
    if (!transfer) return false;
    under_way_.push_back({std::move(*transfer), free_.back()});
    free_.pop_back();
    return true;
  }

  void wait_for_one() {
    under_way_.front().transfer.wait();
    free_.push_back(under_way_.front().buffer);
    under_way_.pop_front();
  }

  [[nodiscard]] std::size_t count() const { return under_way_.size(); }

 private:
  struct UnderWay {
    tiering::Transfer transfer;
    std::span<std::byte> buffer;
  };
  tiering::ShardStore& store_;
  tiering::Extent extent_;
  std::vector<std::span<std::byte>> free_;
  std::deque<UnderWay> under_way_;
};

/// Shards of a format before a step, and after it by the reference.
struct ReferenceStep {
  explicit ReferenceStep(const StateFormat& format) : before(format, false), after(before) {
    after.step_by_reference(at_step(before.groups()));
  }

  TestShards before, after;
};

/// Made once for each format, for all the ways to make the step.
inline const ReferenceStep& reference_step(const StateFormat& format) {
  static std::deque<std::pair<StateFormat, ReferenceStep>> made;
  for (const auto& [made_for, step] : made)
    if (made_for == format) return step;
  return made.emplace_back(format, format).second;
}

/// A pipeline, the shards that it is to update, and the disk that their states rest on.
struct StepUnderTest {
  struct Options {
    StateFormat format = Precision::kBf16;
    std::uint64_t seed = 1;
    std::set<StateKind> on_nvme = every_kind();
    std::size_t windows = 3;
    std::size_t shards_max = 16;
    std::uint32_t operations_max = 64;
  };

  StepUnderTest() : StepUnderTest(Options{}) {}
  explicit StepUnderTest(const Options& options)
      : disk(std::make_shared<aio::SimulatedDisk>(aio::DiskOptions{.seed = options.seed}, &clock)),
        store(disk, clock, options.operations_max),
        shards(reference_step(options.format).before),
        expected(reference_step(options.format).after),
        placed(shards.place(options.on_nvme, &store)),
        pipeline({.formats = {options.format},
                  .window_elements = TestStore::kChunk,
                  .windows = options.windows,
                  .gradients_on_nvme = true,
                  .shards_max = options.shards_max},
                 {.store = &store.store()}, arena, tools.threads, store.counters()) {}

  [[nodiscard]] std::vector<UpdateGroup> groups() const { return at_step(shards.groups()); }

  void begin() { pipeline.begin(groups()); }

  void offer_all() {
    for (const ShardStates& shard : placed) ASSERT_TRUE(pipeline.offer(shard));
  }

  /// Pumps, and lets time pass where that makes no progress, until nothing is left.
  void pump_to_the_end() {
    WindowPipeline::Progress progress{.made = false, .more = true};
    for (int calls = 0; progress.more; ++calls) {
      ASSERT_LT(calls, 100'000) << "pump goes nowhere";
      progress = pipeline.pump();
      if (!progress.made) clock.advance(std::chrono::microseconds(50));
    }
  }

  ::testing::AssertionResult has_bits_of_reference() {
    shards.collect(placed, store);
    return same_bits(expected, shards);
  }

  /// Whether the weights of a shard that is complete are the new ones, where they rest; also when
  /// that cannot be seen, as the queue is full.
  bool has_new_weights(std::size_t index) {
    const tiering::StateHome& home = placed[index].weight;
    std::span<const std::byte> bytes = home.memory;
    if (home.extent) {
      auto transfer = fetch(store.store(), *home.extent, {0, home.extent->bytes}, weights);
      if (!transfer) return true;
      transfer->wait();
      bytes = weights.first(home.extent->bytes);
    }
    return std::ranges::equal(bytes, expected.arrays()[index].bytes(StateKind::kWeight));
  }

  StepTools tools{1};
  tiering::HostArena arena = tools.arena(4_MiB);
  std::span<std::byte> weights = arena.take(64 * 1024, "the weights of a shard");
  ManualClock clock;
  std::shared_ptr<aio::SimulatedDisk> disk;
  TestStore store;
  TestShards shards, expected;
  std::vector<ShardStates> placed;
  WindowPipeline pipeline;
};

}  // namespace strata::optim_cpu
