#include "run_outcome.h"

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "plural.h"
#include "strata/base/error.h"

namespace strata::tool {
namespace {

// More steps than a dynamic loss scale takes to fall from 2^32 to its smallest, with patience.
constexpr std::int64_t kSkippedFromTheFirstMax = 100;

}  // namespace

void RunOutcome::fail() const {
  char loss[32];
  std::snprintf(loss, sizeof loss, "%g", losses_.back());
  throw Error("no step was applied: in all " + counted(losses_.size(), "step") +
              " a gradient was not finite (the last loss was " + loss +
              "), so nothing was trained and no model is written; look for weights that are not "
              "finite in the model that was given, and train in a format with more range (bf16 "
              "for fp16, or fp32)");
}

void RunOutcome::add(const StepRecord& record) {
  losses_.push_back(record.loss);
  training_ += record.interval;
  memory_ = record.memory;
  if (record.overflow) {
    ++skipped_;
  } else {
    if (record.lr == 0) ++without_rate_;
    has_gradient_ |= record.grad_norm != 0;
  }
  const auto steps = static_cast<std::int64_t>(losses_.size());
  if (skipped_ == steps && skipped_ >= kSkippedFromTheFirstMax) fail();
}

void RunOutcome::finish(Summary& summary) const {
  STRATA_CHECK(!losses_.empty(), "a run without a step");
  summary.steps = static_cast<std::int64_t>(losses_.size());
  summary.skipped_steps = skipped_;
  if (skipped_ == summary.steps) fail();
  summary.training = training_;
  summary.memory = memory_;
  summary.train_loss_first = losses_.front();
  const std::size_t tenth = std::max<std::size_t>(1, losses_.size() / 10);
  summary.train_loss_last =
      std::reduce(losses_.end() - static_cast<std::ptrdiff_t>(tenth), losses_.end()) /
      static_cast<double>(tenth);
}

std::vector<std::string> RunOutcome::warnings() const {
  std::vector<std::string> warnings;
  const auto steps = static_cast<std::int64_t>(losses_.size());
  const std::string of_steps = " of " + counted(steps, "step");
  if (2 * without_rate_ > steps) {
    warnings.push_back("the learning rate was 0 in " + std::to_string(without_rate_) + of_steps +
                       ", which changed nothing; set optimizer.params.lr, and let the schedule "
                       "warm up and decay within the run");
  }
  if (!has_gradient_) {
    warnings.emplace_back(
        "every gradient was 0, so nothing was learnt; they may be too small for the format "
        "(train in fp32 or bf16)");
  }
  if (2 * skipped_ > steps) {
    warnings.push_back(std::to_string(skipped_) + of_steps +
                       " were skipped, as a gradient was not finite; the model has hardly been "
                       "trained");
  }
  return warnings;
}

}  // namespace strata::tool
