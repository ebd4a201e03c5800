#include "zero3/order_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace strata::zero3 {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr UnitId kOuter = 0;

/// Forward through outer, 1, 2, outer; backward through outer, 2, 1, outer: a language model.
void run_cycle(OrderTrace& trace) {
  for (const UnitId unit : {kOuter, 1u, 2u, kOuter}) trace.enter({unit, Pass::kForward});
  for (const UnitId unit : {kOuter, 2u, 1u, kOuter}) trace.enter({unit, Pass::kBackward});
  trace.end_cycle();
}

TEST(OrderTrace, SaysNothingBeforeTheFirstCycleIsOver) {
  OrderTrace trace;
  trace.enter({kOuter, Pass::kForward});
  EXPECT_FALSE(trace.recorded());
  EXPECT_THAT(trace.upcoming(8, false, false), IsEmpty());
  EXPECT_EQ(trace.next_use(kOuter), std::nullopt);
}

TEST(OrderTrace, RecordsAUnitThatIsEnteredTwiceInForward) {
  OrderTrace trace;
  run_cycle(trace);
  EXPECT_EQ(trace.entries().size(), 8u);
  EXPECT_EQ(trace.position(), 0u);
}

TEST(OrderTrace, NamesUpcomingUnitsOnceNearestFirst) {
  OrderTrace trace;
  run_cycle(trace);
  EXPECT_THAT(trace.upcoming(8, false, false), ElementsAre(kOuter, 1, 2));
  trace.enter({kOuter, Pass::kForward});
  trace.enter({1, Pass::kForward});
  EXPECT_THAT(trace.upcoming(2, false, false), ElementsAre(2, kOuter));
}

TEST(OrderTrace, StopsAtTheEndOfTheCycleWhenTold) {
  OrderTrace trace;
  run_cycle(trace);
  for (const UnitId unit : {kOuter, 1u, 2u, kOuter}) trace.enter({unit, Pass::kForward});
  for (const UnitId unit : {kOuter, 2u}) trace.enter({unit, Pass::kBackward});
  EXPECT_THAT(trace.upcoming(8, false, true), ElementsAre(1, kOuter));
  EXPECT_THAT(trace.upcoming(8, false, false), ElementsAre(1, kOuter, 2));
}

TEST(OrderTrace, LeavesBackwardOutWhenEvaluating) {
  OrderTrace trace;
  run_cycle(trace);
  for (const UnitId unit : {kOuter, 1u, 2u, kOuter}) trace.enter({unit, Pass::kForward});
  EXPECT_THAT(trace.upcoming(8, true, false), ElementsAre(kOuter, 1, 2));
}

TEST(OrderTrace, FollowsForwardsWithoutBackward) {
  OrderTrace trace;
  run_cycle(trace);
  for (int batch = 0; batch < 3; ++batch) {
    for (const UnitId unit : {kOuter, 1u, 2u, kOuter}) trace.enter({unit, Pass::kForward});
  }
  EXPECT_EQ(trace.entries().size(), 8u);
  EXPECT_EQ(trace.position(), 4u);
  run_cycle(trace);
  EXPECT_EQ(trace.entries().size(), 8u);
}

TEST(OrderTrace, InsertsAUnitItHasNeverSeen) {
  OrderTrace trace;
  run_cycle(trace);
  trace.enter({kOuter, Pass::kForward});
  trace.enter({7, Pass::kForward});
  EXPECT_THAT(trace.upcoming(2, false, false), ElementsAre(1, 2));
  trace.end_cycle();
  trace.enter({kOuter, Pass::kForward});
  EXPECT_THAT(trace.upcoming(1, false, false), ElementsAre(7));
}

TEST(OrderTrace, FollowsASkippedUnit) {
  OrderTrace trace;
  run_cycle(trace);
  trace.enter({kOuter, Pass::kForward});
  trace.enter({2, Pass::kForward});
  EXPECT_THAT(trace.upcoming(1, false, false), ElementsAre(kOuter));
}

TEST(OrderTrace, CountsTheEntriesToTheNextUseGoingRound) {
  OrderTrace trace;
  run_cycle(trace);
  trace.enter({kOuter, Pass::kForward});
  trace.enter({1, Pass::kForward});
  EXPECT_EQ(trace.next_use(2), 0u);
  EXPECT_EQ(trace.next_use(kOuter), 1u);
  EXPECT_EQ(trace.next_use(1), 4u);
  EXPECT_EQ(trace.next_use(9), std::nullopt);
}

}  // namespace
}  // namespace strata::zero3
