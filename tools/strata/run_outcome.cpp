#include "run_outcome.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
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

std::string to_json(const RunOutcome& outcome) {
  const Interval& training = outcome.training_;
  const nlohmann::ordered_json root = {{"losses", outcome.losses_},
                                       {"skipped", outcome.skipped_},
                                       {"without_rate", outcome.without_rate_},
                                       {"has_gradient", outcome.has_gradient_},
                                       {"seconds", training.seconds},
                                       {"tokens", training.tokens},
                                       {"read_bytes", training.read_bytes},
                                       {"written_bytes", training.written_bytes},
                                       {"disk_wait_seconds", training.disk_wait_seconds},
                                       {"disk_busy_seconds", training.disk_busy_seconds},
                                       {"busy_seconds", training.busy_seconds},
                                       {"wait_seconds", training.wait_seconds},
                                       {"hop_bytes", training.hop_bytes}};
  return root.dump();
}

RunOutcome outcome_of(const formats::JsonValue& root) {
  const auto of_hops = [&](const char* key, auto& values, const auto& read) {
    const std::vector<formats::JsonValue> elements = root.at(key).elements();
    if (elements.size() != values.size()) root.at(key).fail("has not as many values as hops");
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = read(elements[i]);
  };
  const auto number = [](const formats::JsonValue& value) { return value.as_double(); };
  RunOutcome outcome;
  for (const formats::JsonValue& loss : root.at("losses").elements()) {
    outcome.losses_.push_back(loss.is(formats::JsonType::kNull)
                                  ? std::numeric_limits<double>::quiet_NaN()
                                  : loss.as_double());
  }
  if (outcome.losses_.empty()) root.at("losses").fail("is empty");
  outcome.skipped_ = root.at("skipped").as_int64();
  outcome.without_rate_ = root.at("without_rate").as_int64();
  outcome.has_gradient_ = root.at("has_gradient").as_bool();
  Interval& training = outcome.training_;
  training.seconds = root.at("seconds").as_double();
  training.tokens = root.at("tokens").as_uint64();
  training.read_bytes = root.at("read_bytes").as_uint64();
  training.written_bytes = root.at("written_bytes").as_uint64();
  training.disk_wait_seconds = root.at("disk_wait_seconds").as_double();
  training.disk_busy_seconds = root.at("disk_busy_seconds").as_double();
  of_hops("busy_seconds", training.busy_seconds, number);
  of_hops("wait_seconds", training.wait_seconds, number);
  of_hops("hop_bytes", training.hop_bytes,
          [](const formats::JsonValue& value) { return value.as_uint64(); });
  return outcome;
}

}  // namespace strata::tool
