#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <string>

#include "metrics.h"
#include "run_facts.h"
#include "run_outcome.h"
#include "strata/base/error.h"
#include "support/message_of.h"
#include "support/temp_directory.h"

/// \file
/// What a run that goes on takes over beside its engine: its lines, its sums, and what it must not
/// change.

namespace strata::tool::run_resume_test {
namespace {

using support::message_of;
using support::TempDirectory;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// ---- metrics -----------------------------------------------------------------------------------

EvaluationRecord line(std::int64_t step) { return {.step = step, .loss = 1.5}; }

TEST(ResumedMetrics, GoOnBehindTheLinesThatWereSaved) {
  const TempDirectory directory;
  const auto path = directory / "metrics.jsonl";
  std::ostringstream words;
  Logger log(words);
  std::uint64_t saved = 0;
  {
    MetricsFile metrics(path, log);
    metrics.write(line(1));
    saved = metrics.sync();
    metrics.write(line(2));
  }
  const std::string all = contents(path);
  {
    MetricsFile metrics(path, log, saved);
    EXPECT_EQ(contents(path), all.substr(0, saved));
    metrics.write(line(2));
  }
  EXPECT_EQ(contents(path), all);
  EXPECT_EQ(words.str(), "");
}

TEST(ResumedMetrics, SayThatLinesAreMissing) {
  const TempDirectory directory;
  const auto path = directory / "metrics.jsonl";
  std::ostringstream words;
  Logger log(words);
  { MetricsFile metrics(path, log, 100); }
  EXPECT_THAT(words.str(), HasSubstr("of the 100 bytes of the steps before, 0 are there"));
  EXPECT_EQ(contents(path), "");
}

// ---- outcome -----------------------------------------------------------------------------------

TEST(ResumedOutcome, IsWhatItWas) {
  RunOutcome whole, half;
  const auto add = [](RunOutcome& outcome, int step) {
    StepRecord record;
    record.loss = 3.0 / step;
    record.lr = step % 2 * 1e-3;
    record.grad_norm = 0.1;
    record.overflow = step == 3;
    record.interval.seconds = 0.1;
    record.interval.tokens = 7;
    record.interval.hop_bytes[2] = 1;
    outcome.add(record);
  };
  for (int step = 1; step <= 20; ++step) add(whole, step);
  for (int step = 1; step <= 9; ++step) add(half, step);
  RunOutcome resumed =
      outcome_of(formats::JsonValue::parse(to_json(half), "x", formats::JsonRole::kData));
  for (int step = 10; step <= 20; ++step) add(resumed, step);
  EXPECT_EQ(to_json(resumed), to_json(whole));
  Summary expected, actual;
  whole.finish(expected);
  resumed.finish(actual);
  EXPECT_EQ(to_json(actual), to_json(expected));
  EXPECT_EQ(resumed.warnings(), whole.warnings());
  EXPECT_EQ(resumed.seconds(), whole.seconds());
}

TEST(ResumedOutcome, MayHaveLossesThatAreNotFinite) {
  RunOutcome outcome;
  StepRecord record;
  record.loss = std::numeric_limits<double>::infinity();
  record.overflow = true;
  outcome.add(record);
  record.loss = 2;
  record.overflow = false;
  outcome.add(record);
  RunOutcome resumed =
      outcome_of(formats::JsonValue::parse(to_json(outcome), "x", formats::JsonRole::kData));
  Summary summary;
  resumed.finish(summary);
  EXPECT_TRUE(std::isnan(summary.train_loss_first));
  EXPECT_EQ(summary.skipped_steps, 1);
}

// ---- facts -------------------------------------------------------------------------------------

std::string refusal(const std::function<void(formats::DsConfig&)>& change) {
  formats::DsConfig before, after;
  before.resolve_batch(1);
  after = before;
  change(after);
  return message_of<ConfigError>(
      [&] { require_same_facts(facts_of(before), facts_of(after), "run/step_1"); });
}

TEST(RunFacts, OfAConfigAreWhatChangesTheNumbers) {
  EXPECT_THAT(refusal([](auto& config) { config.optimizer.lr = 0.5; }),
              AllOf(HasSubstr("run/step_1"), HasSubstr("optimizer.params.lr: was 0.001, is 0.5"),
                    Not(HasSubstr("beta"))));
  EXPECT_THAT(refusal([](auto& config) { config.optimizer.type = formats::OptimizerType::kLion; }),
              HasSubstr("optimizer.type"));
  EXPECT_THAT(refusal([](auto& config) { config.train_micro_batch_size_per_gpu = 2; }),
              HasSubstr("train_micro_batch_size_per_gpu"));
  EXPECT_THAT(refusal([](auto& config) { config.gradient_clipping = 0.25; }),
              HasSubstr("gradient_clipping"));
  EXPECT_THAT(refusal([](auto& config) { config.bf16.enabled = true; }), HasSubstr("bf16"));
  EXPECT_THAT(refusal([](auto& config) { config.strata.no_decay = {"*.bias"}; }),
              HasSubstr("strata.no_decay"));
  EXPECT_THAT(refusal([](auto& config) { config.strata.states.moments = MomentFormat::kInt8; }),
              HasSubstr("strata.states.moments"));
}

TEST(RunFacts, AreNotWhereStatesRestAndHowTheyMove) {
  EXPECT_EQ(refusal([](formats::DsConfig& config) {
              config.zero.offload_param.device = formats::OffloadDevice::kNvme;
              config.strata.nvme_directories = {"/a", "/b"};
              config.strata.host_budget_bytes = 1u << 30;
              config.strata.io = IoBackend::kThreads;
              config.strata.threads = 3;
              config.strata.nonfinite = formats::NonfinitePolicy::kSkip;
              config.strata.chunk_bytes = 1u << 16;
              config.strata.window_elements = 4096;
              config.strata.overlap_step = false;
              config.strata.recompute = true;
              config.strata.activations_host_bytes = 1u << 20;
              config.gradient_accumulation_steps = 4;  // with as many ranks fewer
              config.steps_per_print = 3;
            }),
            support::kNothingThrown);
}

}  // namespace
}  // namespace strata::tool::run_resume_test
