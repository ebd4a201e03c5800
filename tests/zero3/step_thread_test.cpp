#include "zero3/step_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <thread>
#include <vector>

#include "optim_cpu/step_under_test.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/tiering/start_transfer.h"

// The optimizer's steps on a thread of their own, while the engine's thread uses the same store.
// Units 1, 2, 3 and 4 have a shard each, on a disk that takes its time; unit 0 has none.

namespace strata::zero3::step_thread_test {
namespace {

using aio::Fault;
using aio::OpKind;

constexpr std::size_t kUnits = 5;

class StepThreadTest : public ::testing::Test {
 protected:
  void make(const aio::DiskOptions& options = {}, std::size_t windows = 3) {
    thread.reset();
    pipeline.reset();
    others.reset();
    disk = std::make_shared<aio::SimulatedDisk>(options);
    store.emplace(disk);
    shards.emplace(optim_cpu::reference_step(Precision::kBf16).before);
    placed = shards->place(optim_cpu::every_kind(), &*store);
    others.emplace(*store);
    pipeline.emplace(
        optim_cpu::WindowPipeline::Options{.formats = {Precision::kBf16},
                                           .window_elements = optim_cpu::TestStore::kChunk,
                                           .windows = windows,
                                           .gradients_on_nvme = true,
                                           .is_beside = true},
        tiering::HomePlaces{.store = &store->store()}, arena, tools.threads, store->counters());
    thread.emplace(*pipeline, &store->store(), kUnits, store->counters(), &store->counters());
  }

  /// Begins a step of all units and closes it.
  void begin() {
    open();
    for (UnitId unit = 1; unit < kUnits; ++unit) submit(unit);
    thread->close();
  }
  void open() { thread->begin(optim_cpu::at_step(shards->groups())); }
  void submit(UnitId unit) { thread->submit(std::array{UnitUpdate{unit, &placed[unit - 1]}}); }

  [[nodiscard]] bool has_new_weights(UnitId unit) {
    const tiering::Extent extent = *placed[unit - 1].weight.extent;
    start_transfer(&store->store(), [&] {
      return fetch(store->store(), extent, {0, extent.bytes}, weights);
    }).wait();
    return std::ranges::equal(weights.first(extent.bytes), new_weights(unit));
  }

  [[nodiscard]] static std::span<const std::byte> new_weights(UnitId unit) {
    return optim_cpu::reference_step(Precision::kBf16)
        .after.arrays()[unit - 1]
        .bytes(StateKind::kWeight);
  }

  [[nodiscard]] ::testing::AssertionResult has_bits_of_reference() {
    shards->collect(placed, *store);
    return same_bits(optim_cpu::reference_step(Precision::kBf16).after, *shards);
  }

  optim_cpu::StepTools tools{2};
  tiering::HostArena arena = tools.arena(64_MiB);
  std::span<std::byte> weights = arena.take(64 * 1024, "the weights of a unit");
  std::shared_ptr<aio::SimulatedDisk> disk;
  std::optional<optim_cpu::TestStore> store;
  std::optional<optim_cpu::TestShards> shards;
  std::vector<optim_cpu::ShardStates> placed;
  std::optional<optim_cpu::OtherTransfers> others;
  std::optional<optim_cpu::WindowPipeline> pipeline;
  std::optional<StepThread> thread;
};

TEST_F(StepThreadTest, HasTheBitsOfTheReference) {
  make();
  begin();
  thread->wait();
  for (UnitId unit = 0; unit < kUnits; ++unit) EXPECT_FALSE(thread->is_pending(unit));
  EXPECT_TRUE(has_bits_of_reference());
}

TEST_F(StepThreadTest, KeepsAUnitPendingUntilItsOwnUpdateIsAtRest) {
  make();
  disk->hold();
  begin();
  EXPECT_FALSE(thread->is_pending(0)) << "it has no update";
  thread->wait_for(0);
  for (UnitId unit = 1; unit < kUnits; ++unit) EXPECT_TRUE(thread->is_pending(unit)) << unit;
  disk->release();
  for (UnitId unit = 1; unit < kUnits; ++unit) {
    thread->wait_for(unit);
    EXPECT_FALSE(thread->is_pending(unit));
    EXPECT_TRUE(has_new_weights(unit)) << unit;
  }
}

TEST_F(StepThreadTest, HasTheSameBitsHoweverItsStoreIsUsedMeanwhile) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    make({.seed = seed});
    std::mt19937_64 random(seed);
    begin();
    for (UnitId unit = 1; unit < kUnits; ++unit) {
      while (random() % 3 != 0) {
        ASSERT_TRUE(others->start_one(arena));
        if (others->count() > 2) others->wait_for_one();
      }
      if (random() % 2 == 0) {
        thread->wait_for(unit);
        while (others->count() > 0) others->wait_for_one();
        EXPECT_TRUE(has_new_weights(unit)) << "seed " << seed;
      }
    }
    while (others->count() > 0) others->wait_for_one();
    thread->wait();
    EXPECT_TRUE(has_bits_of_reference()) << "seed " << seed;
  }
}

TEST_F(StepThreadTest, UpdatesUnitsAsTheyComeBeforeTheStepIsClosed) {
  make();
  open();
  EXPECT_TRUE(thread->is_open());
  for (const UnitId unit : {4u, 3u}) {
    submit(unit);
    thread->wait_for(unit);
    EXPECT_TRUE(has_new_weights(unit)) << unit;
  }
  thread->wait();
  EXPECT_TRUE(thread->is_open()) << "all that came is complete, and more may come";
  for (const UnitId unit : {1u, 2u}) submit(unit);
  thread->close();
  EXPECT_FALSE(thread->is_open());
  thread->wait();
  EXPECT_TRUE(has_bits_of_reference());
}

TEST_F(StepThreadTest, HasTheSameBitsInWhateverOrderUnitsComeAndAreWaitedFor) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    make({.seed = seed});
    std::mt19937_64 random(seed);
    std::array<UnitId, kUnits - 1> order{1, 2, 3, 4};
    std::shuffle(order.begin(), order.end(), random);
    open();
    for (const UnitId unit : order) {
      submit(unit);
      if (random() % 2 == 0) thread->wait_for(order[random() % order.size()]);
      if (random() % 4 == 0) thread->wait();
    }
    thread->close();
    for (const UnitId unit : order) {
      thread->wait_for(unit);
      EXPECT_TRUE(has_new_weights(unit)) << "seed " << seed;
    }
    thread->wait();
    EXPECT_TRUE(has_bits_of_reference()) << "seed " << seed;
  }
}

TEST_F(StepThreadTest, UpdatesWhatFillsNoBufferYetInTheOrderOfUnitsOnceItIsClosed) {
  make({}, /*windows=*/1);
  constexpr std::uint64_t kReadsOfTwoWindows = 10;
  disk->inject(
      {.fault = Fault::error(EIO),
       .chooses = [](const aio::Request& request) { return request.kind == OpKind::kRead; },
       .skipped = 2 * kReadsOfTwoWindows});  // those of two units
  disk->hold();
  open();
  for (const UnitId unit : {3u, 4u, 1u}) submit(unit);
  thread->close();
  disk->release();
  EXPECT_THROW(thread->wait(), IoError);
  EXPECT_FALSE(thread->is_pending(3)) << "it came first, and has two windows";
  EXPECT_FALSE(thread->is_pending(1)) << "forward uses it before unit 4";
  EXPECT_TRUE(thread->is_pending(4));
}

TEST_F(StepThreadTest, UpdatesTheNewestUnitFirstAsLongAsItIsOpen) {
  make({}, /*windows=*/1);
  constexpr std::uint64_t kReadsOfTwoUnits = 20;
  std::atomic<int> reads = 0;
  disk->inject({.fault = Fault::error(EIO),
                .chooses =
                    [&](const aio::Request& request) {
                      reads += request.kind == OpKind::kRead ? 1 : 0;
                      return request.kind == OpKind::kRead;
                    },
                .skipped = kReadsOfTwoUnits});
  disk->hold();
  open();
  submit(3);
  while (reads == 0) std::this_thread::yield();
  for (const UnitId unit : {2u, 1u}) submit(unit);
  disk->release();
  EXPECT_THROW(thread->wait(), IoError);
  EXPECT_FALSE(thread->is_pending(3)) << "it was begun before the others came";
  EXPECT_FALSE(thread->is_pending(1)) << "it came last";
  EXPECT_TRUE(thread->is_pending(2));
}

TEST_F(StepThreadTest, IsOverWhenItIsClosedWithoutUnits) {
  make();
  open();
  thread->close();
  thread->wait();
  begin();
  thread->wait();
  EXPECT_TRUE(has_bits_of_reference());
}

TEST_F(StepThreadTest, ThrowsTheReasonOfAStepThatWasGivenUp) {
  make();
  open();
  submit(4);
  thread->wait_for(4);
  thread->fail(std::make_exception_ptr(UsageError("half a step")));
  EXPECT_FALSE(thread->is_open());
  EXPECT_THROW(thread->wait(), UsageError);
  EXPECT_THROW(thread->wait(), UsageError) << "once more";
  EXPECT_TRUE(has_new_weights(4));
}

TEST_F(StepThreadTest, CanBeDestroyedWhileAStepIsOpen) {
  for (int i = 0; i < 20; ++i) {
    make();
    open();
    if (i % 2 == 0) submit(2);
    thread.reset();
  }
}

TEST_F(StepThreadTest, BeginsAStepOnceTheOneBeforeIsOver) {
  make();
  begin();
  optim_cpu::TestShards expected = optim_cpu::reference_step(Precision::kBf16).after;
  expected.step_by_reference(optim_cpu::at_step(expected.groups()));
  thread->wait();
  begin();
  thread->wait();
  shards->collect(placed, *store);
  EXPECT_TRUE(same_bits(expected, *shards));
}

TEST_F(StepThreadTest, ThrowsAFailureWhereverItIsWaitedFor) {
  make();
  disk->inject(
      {.fault = Fault::error(EIO),
       .chooses = [](const aio::Request& request) { return request.kind == OpKind::kRead; },
       .skipped = 14});  // all of unit 1, the first windows of the others
  begin();
  EXPECT_THROW(thread->wait(), IoError);
  EXPECT_TRUE(thread->is_pending(4));
  EXPECT_THROW(thread->wait_for(4), IoError) << "once more";
  EXPECT_NO_THROW(thread->wait_for(0));
  EXPECT_THROW(thread->wait(), IoError) << "whoever begins the next step waits";
}

TEST_F(StepThreadTest, CountsNoWaitsOfItsOwnButThoseForIt) {
  make();
  disk->hold();
  begin();
  disk->release();
  thread->wait();
  const CounterReading reading = store->counters().read();
  EXPECT_EQ(reading[Hop::kFetch].wait_ns, 0u);
  EXPECT_EQ(reading[Hop::kFlush].wait_ns, 0u);
  EXPECT_GT(reading[Hop::kStep].wait_ns, 0u);
  EXPECT_GT(reading[Hop::kStep].busy_ns, 0u);
}

TEST_F(StepThreadTest, DeliversNewWeightsThatNobodyReadsBack) {
  make();
  disk->hold();
  begin();
  const std::span<std::byte> target = weights.first(placed[2].weight.extent->bytes);
  EXPECT_TRUE(thread->deliver(3, std::array{target}));
  disk->release();
  thread->wait_for(3);
  EXPECT_TRUE(std::ranges::equal(target, new_weights(3)));
  EXPECT_EQ(store->counters().read()[Hop::kUpload].bytes, target.size());
  thread->wait();
  EXPECT_TRUE(has_bits_of_reference());
}

TEST_F(StepThreadTest, DeliversNothingToATargetThatWasTakenBack) {
  make();
  disk->hold();
  begin();
  std::ranges::fill(weights, std::byte{0xAB});
  EXPECT_TRUE(thread->deliver(3, std::array{weights.first(placed[2].weight.extent->bytes)}));
  thread->withdraw(3);
  disk->release();
  thread->wait();
  EXPECT_TRUE(std::ranges::all_of(weights, [](std::byte byte) { return byte == std::byte{0xAB}; }));
}

TEST_F(StepThreadTest, DeliversNoUnitThatItDoesNotUpdateWhole) {
  make();
  const std::span<std::byte> target = weights.first(placed[2].weight.extent->bytes);
  disk->hold();
  placed[2].segments.front().group = optim_cpu::kNotUpdated;
  begin();
  EXPECT_FALSE(thread->deliver(3, std::array{target})) << "a part of it may not come by";
  EXPECT_FALSE(thread->deliver(0, {})) << "it has no update";
  EXPECT_FALSE(thread->deliver(4, {})) << "it has one vector";
  disk->release();
  thread->wait_for(4);
  EXPECT_FALSE(thread->deliver(4, std::array{target})) << "it is complete";
}

TEST_F(StepThreadTest, CanBeDestroyedInTheMiddleOfAStep) {
  for (int i = 0; i < 20; ++i) {
    make();
    begin();
    thread.reset();
  }
}

}  // namespace
}  // namespace strata::zero3::step_thread_test
