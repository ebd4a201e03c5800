#include "strata/base/timeline.h"

#include <gtest/gtest.h>

#include <array>
#include <thread>
#include <vector>

#include "strata/base/counters.h"

namespace strata {
namespace {

using std::chrono::milliseconds;

Time at(int ms) { return Time(milliseconds(ms)); }

TEST(Timeline, KeepsWhatASpanWas) {
  Timeline timeline;
  timeline.add({.kind = SpanKind::kTransfer,
                .hop = Hop::kFlush,
                .name = "blocks.3 m",
                .slot = 7,
                .bytes = 4096,
                .begin = at(2),
                .end = at(5)});
  timeline.sample("host bytes", 12, at(6));
  const TimelineRecord record = timeline.read();
  ASSERT_EQ(record.spans.size(), 1u);
  const TimelineRecord::Span& span = record.spans.front();
  EXPECT_EQ(span.kind, SpanKind::kTransfer);
  EXPECT_EQ(span.hop, Hop::kFlush);
  EXPECT_EQ(record.names[span.name], "blocks.3 m");
  EXPECT_EQ(span.slot, 7u);
  EXPECT_EQ(span.bytes, 4096u);
  EXPECT_EQ(span.begin, at(2));
  EXPECT_EQ(span.end, at(5));
  ASSERT_EQ(record.samples.size(), 1u);
  EXPECT_EQ(record.names[record.samples.front().name], "host bytes");
  EXPECT_EQ(record.samples.front().value, 12u);
  EXPECT_EQ(record.dropped, 0u);
}

class Flows : public testing::Test {
 protected:
  void write(std::uintptr_t address, std::uint64_t bytes) {
    timeline_.add({.writes = {address, bytes}});
  }
  void read(std::vector<MemoryRange> ranges) { timeline_.add({.reads = ranges}); }
  std::vector<std::array<std::uint32_t, 2>> flows() const {
    std::vector<std::array<std::uint32_t, 2>> pairs;
    for (const auto& flow : timeline_.read().flows) pairs.push_back({flow.from, flow.to});
    return pairs;
  }

  Timeline timeline_;
};

using Pairs = std::vector<std::array<std::uint32_t, 2>>;

TEST_F(Flows, GoFromWhoWroteToWhoReadsTheSameMemory) {
  write(100, 10);                // 0
  write(110, 10);                // 1
  write(130, 10);                // 2
  read({{105, 1}, {119, 100}});  // 3: a byte of the first, and the others
  EXPECT_EQ(flows(), (Pairs{{0, 3}, {1, 3}, {2, 3}}));
}

TEST_F(Flows, NeedAByteInCommon) {
  write(100, 10);
  read({{90, 10}, {110, 10}});
  EXPECT_TRUE(flows().empty());
}

TEST_F(Flows, LeadToTheFirstUseAlone) {
  write(100, 10);
  read({{100, 10}});
  read({{100, 10}});
  EXPECT_EQ(flows(), (Pairs{{0, 1}}));
}

TEST_F(Flows, ComeFromTheLastWriteWhereMemoryIsUsedAgain) {
  write(100, 10);
  write(95, 10);  // over the first one's beginning
  read({{0, 1000}});
  EXPECT_EQ(flows(), (Pairs{{1, 2}}));
}

TEST_F(Flows, GoOnThroughASpanThatReadsAndWrites) {
  write(100, 10);
  const MemoryRange slot{100, 10};
  timeline_.add({.hop = Hop::kUpload, .reads = {&slot, 1}, .writes = {500, 10}});
  read({{500, 10}});
  EXPECT_EQ(flows(), (Pairs{{0, 1}, {1, 2}}));
}

TEST(Timeline, HoldsNoMoreThanItsBoundAndCountsTheRest) {
  Timeline timeline(10);
  const std::vector<MemoryRange> everything{{0, 1000}};
  for (std::uintptr_t i = 0; i < 8; ++i) timeline.add({.name = "w", .writes = {i * 10, 10}});
  for (int i = 0; i < 30; ++i) timeline.add({.name = std::to_string(i), .reads = everything});
  for (std::uint64_t i = 0; i < 30; ++i) timeline.sample("s", i, at(0));
  const TimelineRecord record = timeline.read();
  EXPECT_EQ(record.spans.size(), 10u);
  EXPECT_EQ(record.flows.size(), 8u);
  EXPECT_EQ(record.samples.size(), 10u);
  EXPECT_EQ(record.dropped, 28u + 20u);
  EXPECT_LE(record.names.size(), 10u + 10u);
  EXPECT_EQ(record.names[record.spans.front().name], "w") << "the earliest stay";
}

TEST(Timeline, LosesNothingWhenTwoThreadsRecord) {
  constexpr int kThreads = 2;
  constexpr int kRounds = 5'000;
  Counters counters;
  Timeline timeline;
  counters.record_into(&timeline);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        const std::string name = "thread " + std::to_string(t);
        for (int i = 0; i < kRounds; ++i) {
          ScopedTimer timer(counters, Hop::kStep, ScopedTimer::Kind::kBusy, name, 3);
          timer.reads({static_cast<std::uintptr_t>(t * 100), 100});
          timer.writes({static_cast<std::uintptr_t>(t * 100), 100});
        }
      });
    }
  }
  counters.record_into(nullptr);
  const TimelineRecord record = timeline.read();
  EXPECT_EQ(record.spans.size(), 1u * kThreads * kRounds);
  EXPECT_EQ(record.names.size(), 1u * kThreads);
  EXPECT_EQ(record.flows.size(), 1u * kThreads * (kRounds - 1));
  for (const auto& flow : record.flows) {
    EXPECT_EQ(record.spans[flow.from].name, record.spans[flow.to].name);
  }
}

TEST(Timeline, SeesTheTimersOnlyWhileItIsHandedIn) {
  ManualClock clock;
  Counters counters(clock);
  Timeline timeline;
  const auto wait = [&](std::string_view unit) {
    const ScopedTimer timer(counters, Hop::kFetch, ScopedTimer::Kind::kWait, unit);
    clock.advance(milliseconds(3));
  };
  wait("before");
  counters.record_into(&timeline);
  wait("during");
  counters.record_into(nullptr);
  wait("after");
  const TimelineRecord record = timeline.read();
  ASSERT_EQ(record.spans.size(), 1u);
  EXPECT_EQ(record.names[record.spans.front().name], "during");
  EXPECT_EQ(record.spans.front().kind, SpanKind::kWait);
  EXPECT_EQ(record.spans.front().end - record.spans.front().begin, milliseconds(3));
  EXPECT_EQ(counters.read()[Hop::kFetch].wait_ns, 9'000'000u) << "counted all the same";
}

}  // namespace
}  // namespace strata
