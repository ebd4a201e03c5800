#include "strata/base/clock.h"

#include <gtest/gtest.h>

#include <chrono>

#include "strata/base/counters.h"

namespace strata {
namespace {

using std::chrono::hours;
using std::chrono::nanoseconds;

TEST(SystemClock, NeverGoesBackwards) {
  const SystemClock clock;
  Time before = clock.now();
  for (int i = 0; i < 1000; ++i) {
    const Time now = kSystemClock.now();
    ASSERT_GE(now, before);
    before = now;
  }
}

TEST(ManualClock, StandsStillUntilItIsToldToGoOn) {
  ManualClock clock;
  const Time start = clock.now();
  EXPECT_EQ(clock.now(), start);
  clock.advance(hours(3));
  EXPECT_EQ(clock.now() - start, hours(3));
}

TEST(ManualClock, GoesOnToATimeButNotBackToOneThatIsOver) {
  ManualClock clock;
  const Time start = clock.now();
  clock.advance_to(start + nanoseconds(5));
  EXPECT_EQ(clock.now() - start, nanoseconds(5));
  clock.advance_to(start + nanoseconds(2));
  EXPECT_EQ(clock.now() - start, nanoseconds(5));
}

TEST(ManualClock, DoesNotBeginAtTheTimeThatStandsForNever) {
  EXPECT_GT(ManualClock().now(), Time{});
}

TEST(ScopedTimer, ReadsTheClockThatTheCountersWereMadeWith) {
  ManualClock clock;
  Counters counters(clock);
  {
    const ScopedTimer timer(counters, Hop::kStep, ScopedTimer::Kind::kBusy);
    clock.advance(nanoseconds(1234));
  }
  EXPECT_EQ(counters.read()[Hop::kStep].busy_ns, 1234u);
}

}  // namespace
}  // namespace strata
