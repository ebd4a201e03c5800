#include "strata/base/counters.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace strata {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

TEST(Counters, StartAtZero) {
  const Counters counters;
  for (const HopReading& hop : counters.read().hops) {
    EXPECT_EQ(hop.bytes + hop.calls + hop.busy_ns + hop.wait_ns, 0u);
  }
}

TEST(Counters, KeepTheHopsApart) {
  Counters counters;
  counters.add_moved(Hop::kFetch, 10);
  counters.add_moved(Hop::kFlush, 7);
  counters.add_wait(Hop::kFetch, nanoseconds(5));
  counters.add_busy(Hop::kStep, nanoseconds(3));
  const CounterReading reading = counters.read();
  EXPECT_EQ(reading[Hop::kFetch].bytes, 10u);
  EXPECT_EQ(reading[Hop::kFetch].calls, 1u);
  EXPECT_EQ(reading[Hop::kFetch].wait_ns, 5u);
  EXPECT_EQ(reading[Hop::kFlush].bytes, 7u);
  EXPECT_EQ(reading[Hop::kStep].busy_ns, 3u);
  EXPECT_EQ(reading[Hop::kStep].calls, 0u);
}

TEST(Counters, SubtractIntoAnInterval) {
  Counters counters;
  counters.add_moved(Hop::kDrain, 100);
  const CounterReading before = counters.read();
  counters.add_moved(Hop::kDrain, 23);
  const CounterReading interval = counters.read() - before;
  EXPECT_EQ(interval[Hop::kDrain].bytes, 23u);
  EXPECT_EQ(interval[Hop::kDrain].calls, 1u);
}

TEST(Counters, LoseNothingUnderConcurrency) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 10'000;
  Counters counters;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < kRounds; ++i) counters.add_moved(Hop::kUpload, 3);
      });
    }
  }
  EXPECT_EQ(counters.read()[Hop::kUpload].bytes, 3u * kThreads * kRounds);
  EXPECT_EQ(counters.read()[Hop::kUpload].calls, 1u * kThreads * kRounds);
}

TEST(ScopedTimer, AddsItsLifetimeToTheKindItWasGiven) {
  Counters counters;
  {
    const ScopedTimer timer(counters, Hop::kFetch, ScopedTimer::Kind::kWait);
    std::this_thread::sleep_for(milliseconds(2));
  }
  const HopReading fetch = counters.read()[Hop::kFetch];
  EXPECT_GE(nanoseconds(fetch.wait_ns), milliseconds(2));
  EXPECT_EQ(fetch.busy_ns, 0u);
}

}  // namespace
}  // namespace strata
