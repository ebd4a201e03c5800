#include "zero3/order_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace strata::zero3::order_trace_test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr UnitId kOuter = 0;
constexpr std::size_t kUnits = 16;

void forward(OrderTrace& trace, const std::vector<UnitId>& units, View view = View::kTraining) {
  for (const UnitId unit : units) trace.enter({unit, Pass::kForward}, view);
}

void backward(OrderTrace& trace, const std::vector<UnitId>& units) {
  for (const UnitId unit : units) trace.enter({unit, Pass::kBackward}, View::kTraining);
}

/// Forward through outer, 1, 2, outer; backward through outer, 2, 1, outer: a language model.
void run_cycle(OrderTrace& trace) {
  forward(trace, {kOuter, 1, 2, kOuter});
  backward(trace, {kOuter, 2, 1, kOuter});
  trace.end_cycle(true);
}

/// Who is expected, from the place reached to the end of the cycle.
std::vector<UnitId> expected(const OrderTrace& trace, View view = View::kTraining) {
  std::vector<UnitId> units;
  for (std::uint64_t place = trace.position(view); place < trace.size(); ++place) {
    if (const auto unit = trace.expected_at(place, view)) units.push_back(*unit);
  }
  return units;
}

TEST(OrderTrace, SaysNothingBeforeTheFirstCycleIsOver) {
  OrderTrace trace(kUnits);
  forward(trace, {kOuter});
  EXPECT_FALSE(trace.recorded());
  EXPECT_EQ(trace.expected_at(0, View::kTraining), std::nullopt);
  EXPECT_EQ(trace.next_use(kOuter, View::kTraining), OrderTrace::kNever);
}

TEST(OrderTrace, RecordsAUnitThatIsEnteredTwiceInForward) {
  OrderTrace trace(kUnits);
  run_cycle(trace);
  EXPECT_EQ(trace.size(), 8u);
  EXPECT_EQ(trace.position(View::kTraining), 0u);
  EXPECT_THAT(expected(trace), ElementsAre(kOuter, 1, 2, kOuter, kOuter, 2, 1, kOuter));
}

TEST(OrderTrace, RecordsTheNextCycleWhenTheFirstOneFails) {
  OrderTrace trace(kUnits);
  forward(trace, {5, 6});
  trace.end_cycle(/*complete=*/false);
  EXPECT_FALSE(trace.recorded());
  run_cycle(trace);
  EXPECT_EQ(trace.size(), 8u);
}

TEST(OrderTrace, LearnsNothingFromACycleThatFailed) {
  OrderTrace trace(kUnits);
  run_cycle(trace);
  for (int i = 0; i < 5; ++i) {
    forward(trace, {kOuter, 1});
    trace.end_cycle(/*complete=*/false);
  }
  EXPECT_THAT(expected(trace), ElementsAre(kOuter, 1, 2, kOuter, kOuter, 2, 1, kOuter));
}

TEST(OrderTrace, ExpectsAForwardWithoutBackwardAgainAndAgain) {
  OrderTrace trace(kUnits);
  run_cycle(trace);
  for (int batch = 0; batch < 3; ++batch) forward(trace, {kOuter, 1, 2, kOuter});
  EXPECT_EQ(trace.size(), 8u);
  EXPECT_EQ(trace.position(View::kTraining), 4u);
  run_cycle(trace);
  EXPECT_EQ(trace.size(), 8u);
}

TEST(OrderTrace, LetsAnEvaluationLookAtForwardAloneFromAPlaceOfItsOwn) {
  OrderTrace trace(kUnits);
  run_cycle(trace);
  forward(trace, {kOuter, 1});
  forward(trace, {kOuter}, View::kEvaluating);
  EXPECT_THAT(expected(trace, View::kEvaluating), ElementsAre(1, 2, kOuter));
  EXPECT_THAT(expected(trace), ElementsAre(2, kOuter, kOuter, 2, 1, kOuter));
  forward(trace, {9}, View::kEvaluating);
  EXPECT_EQ(trace.size(), 8u) << "what evaluation alone enters is not recorded";
}

TEST(OrderTrace, FollowsASkippedUnitAndStillExpectsItLater) {
  OrderTrace trace(kUnits);
  run_cycle(trace);
  forward(trace, {kOuter, 2});
  EXPECT_EQ(expected(trace).front(), kOuter);
  forward(trace, {1});
  EXPECT_EQ(trace.position(View::kTraining), 2u);
  EXPECT_THAT(expected(trace), ElementsAre(kOuter, kOuter, 2, 1, kOuter)) << "2 has come";
}

TEST(OrderTrace, TakesTheNewestOrder) {
  OrderTrace trace(kUnits);
  run_cycle(trace);
  forward(trace, {kOuter, 2, 1, kOuter});
  backward(trace, {kOuter, 1, 2, kOuter});
  trace.end_cycle(true);
  EXPECT_THAT(expected(trace), ElementsAre(kOuter, 2, 1, kOuter, kOuter, 1, 2, kOuter));
}

TEST(OrderTrace, IsRepairedAfterOneStrayUse) {
  OrderTrace trace(kUnits);
  run_cycle(trace);
  forward(trace, {kOuter, kOuter, 1, 2, kOuter});
  backward(trace, {kOuter, 2, 1, kOuter});
  trace.end_cycle(true);
  run_cycle(trace);
  run_cycle(trace);
  EXPECT_THAT(expected(trace), ElementsAre(kOuter, 1, 2, kOuter, kOuter, 2, 1, kOuter));
}

TEST(OrderTrace, ExpectsWhatIsNewWhenItHasComeTwice) {
  OrderTrace trace(kUnits);
  run_cycle(trace);
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(expected(trace), ElementsAre(kOuter, 1, 2, kOuter, kOuter, 2, 1, kOuter));
    forward(trace, {kOuter, 7, 1, 2, kOuter});
    backward(trace, {kOuter, 2, 1, kOuter});
    trace.end_cycle(true);
  }
  EXPECT_THAT(expected(trace), ElementsAre(kOuter, 7, 1, 2, kOuter, kOuter, 2, 1, kOuter));
}

TEST(OrderTrace, DoesNotExpectAnExpertThatComesNowAndThen) {
  constexpr UnitId kExperts = 8;
  OrderTrace trace(1 + kExperts);
  std::mt19937 random(1);
  int expected_in_vain = 0;
  int met = 0;
  for (int step = 0; step < 1000; ++step) {
    const UnitId expert = 1 + static_cast<UnitId>(random() % kExperts);
    for (const UnitId unit : expected(trace)) {
      if (unit != kOuter && unit != expert) ++expected_in_vain;
    }
    forward(trace, {kOuter, expert});
    met += trace.recorded() && expected(trace).size() == 2u ? 1 : 0;
    backward(trace, {expert, kOuter});
    trace.end_cycle(true);
  }
  // One in eight comes; counted to two, a random one is expected about every fiftieth time.
  EXPECT_LT(expected_in_vain, 400);
  EXPECT_GT(met, 900) << "its backward is expected once its forward came";
}

TEST(OrderTrace, ForgetsWhatNoLongerComes) {
  OrderTrace trace(kUnits);
  forward(trace, {kOuter, 1, 2, kOuter, 3});
  backward(trace, {kOuter, 2, 1, kOuter});
  trace.end_cycle(true);
  for (std::uint32_t i = 0; i < OrderTrace::kForgottenAfter; ++i) {
    EXPECT_EQ(trace.size(), 9u);
    run_cycle(trace);
  }
  EXPECT_EQ(trace.size(), 8u);
  EXPECT_EQ(trace.next_use(3, View::kTraining), OrderTrace::kNever);
}

TEST(OrderTrace, NamesThePlaceOfTheNextUseGoingRound) {
  OrderTrace trace(kUnits);
  run_cycle(trace);
  forward(trace, {kOuter, 1});
  EXPECT_EQ(trace.next_use(2, View::kTraining), 2u);
  EXPECT_EQ(trace.next_use(kOuter, View::kTraining), 3u);
  EXPECT_EQ(trace.next_use(1, View::kTraining), 6u);
  EXPECT_EQ(trace.next_use(9, View::kTraining), OrderTrace::kNever);
  EXPECT_EQ(trace.next_use(1, View::kEvaluating), 1u);
  forward(trace, {2, kOuter}, View::kEvaluating);
  EXPECT_EQ(trace.next_use(1, View::kEvaluating), 8u + 1u);
}

}  // namespace
}  // namespace strata::zero3::order_trace_test
