#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "optim_cpu/run_step.h"
#include "optim_cpu/step_under_test.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "support/message_of.h"

// A step that goes on beside other work: begin, offer, pump, finish. On a simulated disk, whose
// time passes only while somebody waits for it or says so.

namespace strata::optim_cpu::resumable_step_test {
namespace {

using aio::Fault;
using std::chrono::microseconds;
using support::message_of;
using ::testing::HasSubstr;

constexpr std::uint64_t kWindow = TestStore::kChunk;
/// Longer than the disk takes for anything.
constexpr std::chrono::seconds kLong{1};

// ---- the way of a step --------------------------------------------------------------------------

TEST(ResumableStep, IsFinishedWithoutAPump) {
  StepUnderTest step;
  step.begin();
  step.offer_all();
  EXPECT_TRUE(step.pipeline.finish());
  EXPECT_EQ(step.pipeline.completed(), step.placed.size());
  EXPECT_TRUE(step.has_bits_of_reference());
}

TEST(ResumableStep, CanBePumpedToItsEnd) {
  for (const std::uint32_t operations_max : {1u, 2u, 64u}) {
    StepUnderTest step({.operations_max = operations_max});
    step.begin();
    step.offer_all();
    step.pump_to_the_end();
    EXPECT_EQ(step.pipeline.completed(), step.placed.size());
    const Time before = step.clock.now();
    EXPECT_TRUE(step.pipeline.finish());
    EXPECT_EQ(step.clock.now(), before) << "nothing was left to wait for";
    EXPECT_TRUE(step.has_bits_of_reference()) << operations_max;
  }
}

TEST(ResumableStep, RecordsForEachUpdateWhatItWasFetchedBy) {
  StepUnderTest step;
  for (ShardStates& shard : step.placed) shard.name = "blocks.0";
  Timeline timeline;
  step.store.counters().record_into(&timeline);
  step.begin();
  step.offer_all();
  EXPECT_TRUE(step.pipeline.finish());
  const TimelineRecord record = timeline.read();
  std::vector<int> fetches(record.spans.size()), updates(record.spans.size());
  for (const TimelineRecord::Flow& flow : record.flows) {
    const auto &from = record.spans[flow.from], &to = record.spans[flow.to];
    EXPECT_EQ(from.kind, SpanKind::kTransfer);
    EXPECT_EQ(from.hop, Hop::kFetch);
    EXPECT_EQ(to.kind, SpanKind::kBusy);
    EXPECT_EQ(to.hop, Hop::kStep);
    EXPECT_LE(from.end, to.begin);
    ++updates[flow.from];
    ++fetches[flow.to];
  }
  int waits = 0;
  for (std::size_t i = 0; i < record.spans.size(); ++i) {
    const TimelineRecord::Span& span = record.spans[i];
    if (span.kind == SpanKind::kWait) ++waits;
    if (span.kind == SpanKind::kTransfer) {
      EXPECT_EQ(updates[i], span.hop == Hop::kFetch ? 1 : 0);
    } else if (span.hop == Hop::kStep) {
      EXPECT_EQ(fetches[i], kStateKindCount);
      EXPECT_EQ(record.names[span.name], "blocks.0");
    }
  }
  EXPECT_GT(waits, 0);
  EXPECT_TRUE(step.has_bits_of_reference());
}

TEST(ResumableStep, WithoutShardsIsEmpty) {
  StepUnderTest step;
  step.begin();
  const WindowPipeline::Progress progress = step.pipeline.pump();
  EXPECT_FALSE(progress.made);
  EXPECT_FALSE(progress.more);
  EXPECT_TRUE(step.pipeline.finish());
  EXPECT_EQ(step.pipeline.completed(), 0u);
}

TEST(ResumableStep, HasTheBitsOfTheReferenceWhileAThreadMovesTheBytes) {
  for (const std::uint32_t operations_max : {1u, 3u, 64u}) {
    TestStore store(
        {.backend = IoBackend::kThreads, .threads = 2, .operations_max = operations_max});
    TestShards shards(Precision::kBf16, false);
    TestShards expected(Precision::kBf16, false);
    expected.step_by_reference(at_step(expected.groups()));
    const std::vector<ShardStates> placed = shards.place(every_kind(), &store);
    StepTools tools(2);
    tiering::HostArena arena = tools.arena(2_MiB);
    WindowPipeline pipeline(smallest_windows(Precision::kBf16), {.store = &store.store()}, arena,
                            tools.threads, store.counters());
    Timeline timeline;  // its spans' times are taken by that thread
    store.counters().record_into(&timeline);
    pipeline.begin(at_step(shards.groups()));
    for (const ShardStates& shard : placed) {
      EXPECT_TRUE(pipeline.offer(shard));
      while (pipeline.pump().made) {
      }
    }
    EXPECT_TRUE(pipeline.finish());
    store.counters().record_into(nullptr);
    for (const TimelineRecord::Span& span : timeline.read().spans) EXPECT_LE(span.begin, span.end);
    EXPECT_FALSE(timeline.read().flows.empty());
    shards.collect(placed, store);
    EXPECT_TRUE(same_bits(expected, shards)) << operations_max;
  }
}

TEST(ResumableStep, FollowsAnotherAndCountsAnew) {
  StepUnderTest step;
  for (std::int64_t number = 1; number <= 3; ++number) {
    if (number > 1)
      step.expected.step_by_reference(at_step(step.shards.groups(), {.step = number}));
    step.pipeline.begin(at_step(step.shards.groups(), {.step = number}));
    EXPECT_EQ(step.pipeline.completed(), 0u);
    step.offer_all();
    EXPECT_TRUE(step.pipeline.finish());
    EXPECT_EQ(step.pipeline.completed(), step.placed.size());
  }
  EXPECT_TRUE(step.has_bits_of_reference());
}

TEST(ResumableStep, KeepsItsGroupsItself) {
  StepUnderTest step;
  {
    std::vector<UpdateGroup> groups = step.groups();
    step.pipeline.begin(groups);
    for (UpdateGroup& group : groups) group.step.gradient_scale = 7.0f;
  }
  step.offer_all();
  EXPECT_TRUE(step.pipeline.finish());
  EXPECT_TRUE(step.has_bits_of_reference());
}

// ---- pump ---------------------------------------------------------------------------------------

TEST(Pump, NeverWaitsForTheDisk) {
  StepUnderTest step;
  step.begin();
  step.offer_all();
  EXPECT_TRUE(step.pipeline.pump().made) << "fetches begin";
  const Time before = step.clock.now();
  for (int i = 0; i < 10; ++i) {
    const WindowPipeline::Progress progress = step.pipeline.pump();
    EXPECT_FALSE(progress.made) << "nothing arrives while time stands still";
    EXPECT_TRUE(progress.more);
  }
  EXPECT_EQ(step.clock.now(), before);
}

TEST(Pump, UpdatesOneWindowAtMost) {
  StepUnderTest step({.on_nvme = {}});
  const auto windows = std::accumulate(step.placed.begin(), step.placed.end(), std::uint64_t{0},
                                       [](std::uint64_t sum, const ShardStates& shard) {
                                         return sum + ceil_div(shard.count, kWindow);
                                       });
  step.begin();
  step.offer_all();
  for (std::uint64_t window = 1; window <= windows; ++window) {
    const WindowPipeline::Progress progress = step.pipeline.pump();
    EXPECT_TRUE(progress.made);
    EXPECT_EQ(progress.more, window < windows) << window;
  }
  EXPECT_FALSE(step.pipeline.pump().made);
}

TEST(Pump, KeepsTheDiskBusyWhileTheCallerComputes) {
  StepUnderTest step;
  step.begin();
  step.offer_all();
  while (step.pipeline.pump().more) step.clock.advance(kLong);
  const CounterReading spent = step.store.counters().read();
  EXPECT_TRUE(step.pipeline.finish());
  EXPECT_EQ(step.store.counters().read()[Hop::kFetch].wait_ns, spent[Hop::kFetch].wait_ns);
  EXPECT_TRUE(step.has_bits_of_reference());
}

// ---- what is complete ---------------------------------------------------------------------------

TEST(OfferedShard, IsCompleteWhenItsLastWindowIsBackAtRestAndInTheOrderOfOffers) {
  StepUnderTest step;
  step.begin();
  step.offer_all();
  std::size_t seen = 0;
  for (bool more = true; more; step.clock.advance(microseconds(20))) {
    more = step.pipeline.pump().more;
    for (; seen < step.pipeline.completed(); ++seen)
      EXPECT_TRUE(step.has_new_weights(seen)) << seen;
  }
  EXPECT_EQ(seen, step.placed.size());
}

TEST(OfferedShard, CanBeFetchedAnewWhileOthersAreStillUpdated) {
  StepUnderTest step({.windows = 1});
  step.begin();
  step.offer_all();
  while (step.pipeline.completed() == 0) {
    step.pipeline.pump();
    step.clock.advance(microseconds(20));
  }
  EXPECT_LT(step.pipeline.completed(), step.placed.size());
  EXPECT_TRUE(step.has_new_weights(0));
  EXPECT_TRUE(step.pipeline.finish());
  EXPECT_TRUE(step.has_bits_of_reference());
}

TEST(OfferedShard, IsNotTakenNowWhileAsManyAsThereIsRoomForAreNotComplete) {
  StepUnderTest step({.shards_max = 2});
  step.begin();
  EXPECT_TRUE(step.pipeline.offer(step.placed[0]));
  EXPECT_TRUE(step.pipeline.offer(step.placed[1]));
  EXPECT_FALSE(step.pipeline.offer(step.placed[2]));
  step.pump_to_the_end();
  EXPECT_EQ(step.pipeline.completed(), 2u);
  EXPECT_TRUE(step.pipeline.offer(step.placed[2]));
  EXPECT_TRUE(step.pipeline.offer(step.placed[3]));
  EXPECT_TRUE(step.pipeline.finish());
  EXPECT_TRUE(step.has_bits_of_reference());
}

TEST(OfferedShard, IsWantedUntilMoreIsLeftThanFillsTheBuffers) {
  StepUnderTest step({.windows = 2});
  step.begin();
  EXPECT_TRUE(step.pipeline.wants_shard()) << "there is nothing to do";
  EXPECT_TRUE(step.pipeline.offer(step.placed[0]));
  EXPECT_TRUE(step.pipeline.wants_shard()) << "its 5003 elements do not fill two windows";
  EXPECT_TRUE(step.pipeline.offer(step.placed[2]));
  EXPECT_FALSE(step.pipeline.wants_shard()) << "13195 elements do";
  step.pipeline.pump();
  EXPECT_FALSE(step.pipeline.wants_shard()) << "two windows have begun, and two are left";
  step.pump_to_the_end();
  EXPECT_TRUE(step.pipeline.wants_shard());
  EXPECT_TRUE(step.pipeline.offer(step.placed[1]));
  EXPECT_TRUE(step.pipeline.offer(step.placed[3]));
  EXPECT_TRUE(step.pipeline.finish());
  EXPECT_TRUE(step.has_bits_of_reference());
}

TEST(OfferedShard, NeedsNoRoomWhereNothingIsUpdatedAndIsCompleteInItsTurn) {
  StepUnderTest step({.shards_max = 1});
  ShardStates resting = step.placed[3];
  resting.segments = {{0, resting.count, kNotUpdated}};
  step.begin();
  EXPECT_TRUE(step.pipeline.offer(resting));
  EXPECT_EQ(step.pipeline.completed(), 1u) << "nothing is before it";
  EXPECT_TRUE(step.pipeline.offer(step.placed[0]));
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(step.pipeline.offer(resting));
  EXPECT_FALSE(step.pipeline.offer(step.placed[1]));
  EXPECT_EQ(step.pipeline.completed(), 1u) << "what is before them is not complete";
  step.pump_to_the_end();
  EXPECT_EQ(step.pipeline.completed(), 102u);
  EXPECT_TRUE(step.pipeline.finish());
}

// ---- calls out of order -------------------------------------------------------------------------

TEST(CallOutOfOrder, IsRefusedByNameWhileNoStepIsUnderWay) {
  StepUnderTest step;
  const auto expect_refused = [&] {
    EXPECT_THAT(message_of<UsageError>([&] { (void)step.pipeline.offer(step.placed[0]); }),
                HasSubstr("offer while no step is under way"));
    EXPECT_THAT(message_of<UsageError>([&] { step.pipeline.pump(); }),
                HasSubstr("pump while no step is under way"));
    EXPECT_THAT(message_of<UsageError>([&] { (void)step.pipeline.finish(); }),
                HasSubstr("finish while no step is under way"));
  };
  expect_refused();
  step.begin();
  EXPECT_TRUE(step.pipeline.finish());
  expect_refused();
}

TEST(CallOutOfOrder, LeavesTheStepUnderWayAsItIs) {
  StepUnderTest step;
  step.begin();
  step.offer_all();
  step.pipeline.pump();
  EXPECT_THAT(message_of<UsageError>([&] { step.begin(); }),
              HasSubstr("begin while a step is under way"));
  EXPECT_TRUE(step.pipeline.finish());
  EXPECT_TRUE(step.has_bits_of_reference());
}

TEST(CallOutOfOrder, NeverBeginsAStepWithGroupsOfAnotherOptimizer) {
  StepUnderTest step;
  const std::vector<OptimizerOptions> lion = {LionOptions{}, LionOptions{}};
  EXPECT_THROW(step.pipeline.begin(at_step(lion)), UsageError);
  EXPECT_THROW((void)step.pipeline.finish(), UsageError);
  step.begin();
  EXPECT_TRUE(step.pipeline.finish());
}

TEST(CallOutOfOrder, RefusesAShardByItsNumberAndGoesOnWithTheOthers) {
  StepUnderTest step;
  step.begin();
  EXPECT_TRUE(step.pipeline.offer(step.placed[0]));
  ShardStates spoiled = step.placed[1];
  spoiled.segments.pop_back();
  EXPECT_THAT(message_of<UsageError>([&] { (void)step.pipeline.offer(spoiled); }),
              HasSubstr("shard 1"));
  for (std::size_t i = 1; i < step.placed.size(); ++i)
    EXPECT_TRUE(step.pipeline.offer(step.placed[i]));
  EXPECT_TRUE(step.pipeline.finish());
  EXPECT_TRUE(step.has_bits_of_reference());
}

TEST(CallOutOfOrder, IsNoWayToAskForRoomForNoShard) {
  EXPECT_THROW(StepUnderTest({.shards_max = 0}), ConfigError);
}

// ---- a queue that others fill -------------------------------------------------------------------

TEST(FullQueue, IsAnAnswerAndNoErrorWhereTheTransfersAreOthers) {
  StepUnderTest step({.operations_max = 2});
  OtherTransfers others(step.store);
  while (others.start_one(step.arena)) {
  }
  step.begin();
  step.offer_all();
  EXPECT_FALSE(step.pipeline.pump().made);
  EXPECT_FALSE(step.pipeline.finish()) << "not now";
  EXPECT_EQ(step.pipeline.completed(), 0u);
  others.wait_for_one();
  EXPECT_TRUE(step.pipeline.pump().made);
  EXPECT_TRUE(step.pipeline.finish()) << "with one place it gets through";
  EXPECT_TRUE((others.wait_for_one(), step.has_bits_of_reference()));
}

// ---- errors in the middle -----------------------------------------------------------------------

TEST(FailedStep, ThrowsTheErrorFromPumpAndIsOver) {
  for (const aio::OpKind kind : {aio::OpKind::kRead, aio::OpKind::kWrite}) {
    StepUnderTest step({.operations_max = 1});
    step.begin();
    step.offer_all();
    step.disk->inject(kind, Fault::error(EIO));
    EXPECT_THROW(step.pump_to_the_end(), IoError);
    EXPECT_THAT(message_of<UsageError>([&] { step.pipeline.pump(); }),
                HasSubstr("the step has failed"));
    EXPECT_THAT(message_of<UsageError>([&] { (void)step.pipeline.offer(step.placed[0]); }),
                HasSubstr("the step has failed"));
    EXPECT_THAT(message_of<UsageError>([&] { (void)step.pipeline.finish(); }),
                HasSubstr("the step has failed"));
  }
}

TEST(FailedStep, ThrowsTheErrorFromFinishAndIsOver) {
  StepUnderTest step;
  step.begin();
  step.offer_all();
  step.disk->inject(aio::OpKind::kRead, Fault::flipped_bit());
  EXPECT_THROW((void)step.pipeline.finish(), CorruptData);
  EXPECT_THROW((void)step.pipeline.finish(), UsageError);
}

TEST(FailedStep, CountsTheShardsThatWereCompleteBefore) {
  StepUnderTest step({.windows = 1});
  step.begin();
  step.offer_all();
  while (step.pipeline.completed() == 0) {
    step.pipeline.pump();
    step.clock.advance(microseconds(20));
  }
  step.disk->inject(aio::OpKind::kWrite, Fault::error(EIO));
  EXPECT_THROW((void)step.pipeline.finish(), IoError);
  EXPECT_EQ(step.pipeline.completed(), 1u);
  EXPECT_TRUE(step.has_new_weights(0));
}

TEST(FailedStep, LeavesAPipelineThatMakesTheNextOne) {
  StepUnderTest step;
  step.begin();
  step.offer_all();
  step.pipeline.pump();
  step.disk->inject(aio::OpKind::kRead, Fault::error(EIO));
  step.clock.advance(kLong);
  EXPECT_THROW(step.pump_to_the_end(), IoError);
  step.shards = TestShards(Precision::kBf16, false);
  step.placed = step.shards.place(every_kind(), &step.store);
  step.begin();
  EXPECT_EQ(step.pipeline.completed(), 0u);
  step.offer_all();
  EXPECT_TRUE(step.pipeline.finish());
  EXPECT_TRUE(step.has_bits_of_reference());
}

TEST(FailedStep, SaysThatNoOtherCanFollowWhereWindowsAreLost) {
  StepUnderTest step;
  step.disk->inject(aio::OpKind::kRead, Fault::stuck());
  EXPECT_THROW(run_step(step.pipeline, step.placed, step.groups()), DeadlineExceeded);
  EXPECT_THROW(step.begin(), DeadlineExceeded);
  EXPECT_THROW(step.pipeline.pump(), UsageError);
}

TEST(FailedStep, IsNoneWhereThePipelineEndsInTheMiddle) {
  StepUnderTest step;
  {
    WindowPipeline pipeline(smallest_windows(Precision::kBf16), {.store = &step.store.store()},
                            step.arena, step.tools.threads, step.store.counters());
    pipeline.begin(step.groups());
    EXPECT_TRUE(pipeline.offer(step.placed[0]));
    pipeline.pump();
  }
  step.begin();  // a transfer still held would make its bytes a UsageError
  step.offer_all();
  EXPECT_TRUE(step.pipeline.finish());
  EXPECT_TRUE(step.has_bits_of_reference());
}

}  // namespace
}  // namespace strata::optim_cpu::resumable_step_test
