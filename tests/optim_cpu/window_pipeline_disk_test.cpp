#include "strata/optim_cpu/window_pipeline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <span>
#include <vector>

#include "optim_cpu/offloaded_shards.h"
#include "optim_cpu/run_step.h"
#include "optim_cpu/step_tools.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

// A pipeline over a simulated disk, which fails or takes its time.

namespace strata::optim_cpu::window_pipeline_disk_test {
namespace {

class WindowPipelineOnSimulatedDisk : public ::testing::Test {
 protected:
  void run() { run_step(pipeline_, placed_, at_step(shards_.groups())); }

  ManualClock clock_;
  std::shared_ptr<aio::SimulatedDisk> disk_ =
      std::make_shared<aio::SimulatedDisk>(aio::DiskOptions{}, &clock_);
  TestStore store_{disk_, clock_};
  TestShards shards_{Precision::kBf16, false};
  std::vector<ShardStates> placed_ = shards_.place(every_kind(), &store_);
  StepTools tools_{2};
  tiering::HostArena arena_ = tools_.arena(8_MiB);
  WindowPipeline pipeline_{smallest_windows(Precision::kBf16),
                           {.store = &store_.store()},
                           arena_,
                           tools_.threads,
                           store_.counters()};
};

TEST_F(WindowPipelineOnSimulatedDisk, ReportsAReadThatFails) {
  disk_->inject(aio::OpKind::kRead, aio::Fault::error(EIO));
  EXPECT_THROW(run(), IoError);
}

TEST_F(WindowPipelineOnSimulatedDisk, ReportsAWriteThatFails) {
  disk_->inject(aio::OpKind::kWrite, aio::Fault::error(EIO));
  EXPECT_THROW(run(), IoError);
}

TEST_F(WindowPipelineOnSimulatedDisk, ReportsAFlippedBit) {
  disk_->inject(aio::OpKind::kRead, aio::Fault::flipped_bit());
  EXPECT_THROW(run(), CorruptData);
}

TEST_F(WindowPipelineOnSimulatedDisk, LetsGoOfEveryTransferWhenItFails) {
  disk_->inject(aio::OpKind::kRead, aio::Fault::error(EIO));
  EXPECT_THROW(run(), IoError);
  EXPECT_NO_THROW(run());  // a transfer still held would make its bytes a UsageError
}

TEST_F(WindowPipelineOnSimulatedDisk, CountsTheTimeItStandsStillForTheDisk) {
  const CounterReading before = store_.counters().read();
  const Time begin = clock_.now();
  run();
  const CounterReading spent = store_.counters().read() - before;
  const auto all = static_cast<std::uint64_t>((clock_.now() - begin) / std::chrono::nanoseconds(1));
  EXPECT_GT(spent[Hop::kFetch].wait_ns, 0u);
  EXPECT_GT(spent[Hop::kFlush].wait_ns, 0u);
  EXPECT_EQ(spent[Hop::kFetch].wait_ns + spent[Hop::kFlush].wait_ns, all)
      << "only the disk takes time here";
}

TEST_F(WindowPipelineOnSimulatedDisk, SaysAtOnceThatOthersHoldEveryPlaceAndGoesOnWhenTheyHaveLeft) {
  TestStore crowded(disk_, clock_, 2);
  TestShards shards(Precision::kBf16, false);
  const std::vector<ShardStates> placed = shards.place(every_kind(), &crowded);
  WindowPipeline pipeline(smallest_windows(Precision::kBf16), {.store = &crowded.store()}, arena_,
                          tools_.threads, crowded.counters());
  {
    const std::span<std::byte> memory = arena_.take(2 * TestStore::kChunk, "prefetched shards");
    const tiering::ByteRange range{0, TestStore::kChunk};
    auto one =
        fetch(crowded.store(), *placed[0].weight.extent, range, memory.first(TestStore::kChunk));
    auto other =
        fetch(crowded.store(), *placed[0].weight.extent, range, memory.last(TestStore::kChunk));
    pipeline.begin(at_step(shards.groups()));
    for (const ShardStates& shard : placed) ASSERT_TRUE(pipeline.offer(shard));
    EXPECT_FALSE(pipeline.finish());
  }
  EXPECT_TRUE(pipeline.finish());
}

TEST_F(WindowPipelineOnSimulatedDisk, ReadsTheNextWindowsBeforeItWritesTheFirst) {
  constexpr std::size_t kWindows = 3;
  constexpr std::size_t kReadsPerWindow = 5;  // weight, master, m, v, gradient
  disk_->start_trace();
  run();
  const std::vector<aio::DiskEvent> requests = disk_->trace();
  const auto first_write = std::ranges::find(requests, aio::OpKind::kWrite, &aio::DiskEvent::kind);
  EXPECT_GE(first_write - requests.begin(), std::ptrdiff_t{kWindows * kReadsPerWindow});
  const auto reads = std::ranges::count(requests, aio::OpKind::kRead, &aio::DiskEvent::kind);
  const auto writes = std::ranges::count(requests, aio::OpKind::kWrite, &aio::DiskEvent::kind);
  EXPECT_EQ(4 * reads, 5 * writes) << "the gradient is not written";
}

TEST_F(WindowPipelineOnSimulatedDisk, MovesNothingWhereNothingIsUpdated) {
  for (ShardStates& shard : placed_) shard.segments = {{0, shard.count, kNotUpdated}};
  disk_->start_trace();
  run_step(pipeline_, placed_, {});
  EXPECT_TRUE(disk_->trace().empty());

  // Of a shard of two windows, only the second.
  ShardStates& two_windows = placed_[2];
  ASSERT_EQ(two_windows.count, 2 * TestStore::kChunk);
  two_windows.segments = {{0, TestStore::kChunk, kNotUpdated},
                          {TestStore::kChunk, two_windows.count, 0}};
  run();
  const std::vector<aio::DiskEvent> requests = disk_->trace();
  EXPECT_EQ(std::ranges::count(requests, aio::OpKind::kRead, &aio::DiskEvent::kind), 5);
  EXPECT_EQ(std::ranges::count(requests, aio::OpKind::kWrite, &aio::DiskEvent::kind), 4);
}

}  // namespace
}  // namespace strata::optim_cpu::window_pipeline_disk_test
