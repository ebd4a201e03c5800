#include "run_outcome.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "strata/base/error.h"
#include "support/message_of.h"

namespace strata::tool::run_outcome_test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

StepRecord applied(double loss, double lr = 1e-3) {
  StepRecord record;
  record.loss = loss;
  record.lr = lr;
  record.grad_norm = 1;
  record.interval.tokens = 10;
  return record;
}

StepRecord skipped() {
  StepRecord record = applied(std::numeric_limits<double>::quiet_NaN());
  record.overflow = true;
  record.grad_norm = std::numeric_limits<double>::infinity();
  return record;
}

std::string error_of(const RunOutcome& outcome) {
  Summary summary;
  return support::message_of<Error>([&] { outcome.finish(summary); });
}

TEST(RunOutcome, ARunWhoseStepsWereAllSkippedIsAFailure) {
  RunOutcome outcome;
  for (int step = 0; step < 25; ++step) outcome.add(skipped());
  EXPECT_THAT(error_of(outcome),
              AllOf(HasSubstr("no step was applied"), HasSubstr("all 25 steps"), HasSubstr("nan")));
}

TEST(RunOutcome, OneStepThatWasAppliedIsEnough) {
  RunOutcome outcome;
  outcome.add(skipped());
  outcome.add(applied(4));
  EXPECT_EQ(error_of(outcome), support::kNothingThrown);
}

TEST(RunOutcome, ARunThatCannotGetBetterEndsEarly) {
  RunOutcome outcome;
  int steps = 0;
  EXPECT_THAT(support::message_of<Error>([&] {
                for (; steps < 10'000; ++steps) outcome.add(skipped());
              }),
              HasSubstr("no step was applied"));
  EXPECT_LT(steps, 200);

  RunOutcome diverged;  // its weights are kept
  diverged.add(applied(4));
  EXPECT_NO_THROW(for (int step = 0; step < 1000; ++step) diverged.add(skipped()));
}

TEST(RunOutcome, SumsUpWhatTheStepsSay) {
  RunOutcome outcome;
  for (int step = 1; step <= 20; ++step) outcome.add(applied(step));
  Summary summary;
  outcome.finish(summary);
  EXPECT_EQ(summary.steps, 20);
  EXPECT_EQ(summary.skipped_steps, 0);
  EXPECT_EQ(summary.train_loss_first, 1);
  EXPECT_EQ(summary.train_loss_last, 19.5);
  EXPECT_EQ(summary.training.tokens, 200u);
  EXPECT_THAT(outcome.warnings(), IsEmpty());
}

TEST(RunOutcome, SaysWhatMakesATrainedModelTheSameAsBefore) {
  RunOutcome at_rest;
  at_rest.add(applied(4, /*lr=*/0));
  EXPECT_THAT(at_rest.warnings(), ElementsAre(HasSubstr("learning rate was 0 in 1 of 1")));
  at_rest.add(applied(4));
  EXPECT_THAT(at_rest.warnings(), IsEmpty());

  RunOutcome flat;
  StepRecord record = applied(4);
  record.grad_norm = 0;
  flat.add(record);
  EXPECT_THAT(flat.warnings(), ElementsAre(HasSubstr("every gradient was 0")));

  RunOutcome rough;
  for (int step = 0; step < 3; ++step) rough.add(skipped());
  rough.add(applied(4));
  EXPECT_THAT(rough.warnings(), ElementsAre(HasSubstr("3 of 4 steps were skipped")));
}

}  // namespace
}  // namespace strata::tool::run_outcome_test
