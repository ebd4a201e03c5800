#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "metrics.h"
#include "progress.h"
#include "readable_text.h"
#include "step_line.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/tiering/budget.h"
#include "summary.h"
#include "support/temp_directory.h"

namespace strata::tool::report_test {
namespace {

using support::TempDirectory;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

StepRecord record(std::int64_t step) {
  StepRecord record;
  record.step = step;
  record.loss = 4.25;
  record.lr = 3e-4;
  record.grad_norm = 1.5;
  record.interval = {.seconds = 2,
                     .tokens = 5000,
                     .read_bytes = 3'000'000'000,
                     .written_bytes = 1'000'000'000,
                     .disk_wait_seconds = 0.5,
                     .disk_busy_seconds = 1.5};
  record.memory.used = {.device = 1_MiB, .host = 300_MiB, .nvme = 1_GiB};
  record.memory.peak = record.memory.used;
  record.memory.budget = {
      .device = tiering::Budget::kUnlimited, .host = 400_MiB, .nvme = tiering::Budget::kUnlimited};
  return record;
}

std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

TEST(StepLine, SaysWhatAPersonWantsToKnow) {
  const std::string line = step_line(record(7), 100, record(7).interval);
  EXPECT_EQ(line,
            "step:   7/100  loss: 4.2500  lr: 3.00e-04  grad_norm: 1.5000  tps: 2,500  "
            "device: 1.00 MiB  host: 300 MiB of 400 MiB  nvme: 1.00 GiB  read: 1.50 GB/s  "
            "written: 0.50 GB/s  waiting: 25%  bound: 75% (disk)");
}

TEST(Interval, IsBoundByTheResourceThatWasAtWorkLongest) {
  Interval interval = record(1).interval;
  EXPECT_EQ(interval.bound_share(), 0.75);
  EXPECT_EQ(interval.binding_resource(), "disk");
  interval.busy_seconds[static_cast<std::size_t>(Hop::kCompute)] = 1.75;
  EXPECT_EQ(interval.bound_share(), 0.875);
  EXPECT_EQ(interval.binding_resource(), "compute");
  interval += interval;
  EXPECT_EQ(interval.bound_share(), 0.875) << "over twice the time";
  EXPECT_EQ(Interval{}.bound_share(), 0.0);
}

TEST(StepLine, SaysThatAStepWasSkipped) {
  StepRecord skipped = record(7);
  EXPECT_THAT(step_line(skipped, 100, {}), Not(HasSubstr("skipped")));
  skipped.overflow = true;
  EXPECT_THAT(step_line(skipped, 100, {}), HasSubstr("skipped"));
}

TEST(StepLine, SeparatesThousands) {
  EXPECT_EQ(with_separators(0), "0");
  EXPECT_EQ(with_separators(999), "999");
  EXPECT_EQ(with_separators(1000), "1,000");
  EXPECT_EQ(with_separators(1234567), "1,234,567");
}

TEST(Progress, PrintsFirstLastAndEveryNthStepWithTheRatesSinceTheLastLine) {
  std::ostringstream out;
  Progress progress(out, /*terminal=*/false, 5, 2);
  for (std::int64_t step = 1; step <= 5; ++step) {
    StepRecord slower = record(step);
    slower.interval.seconds = static_cast<double>(step);
    progress.step(slower);
  }
  const std::string text = out.str();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4);
  EXPECT_THAT(text, HasSubstr("step: 4/5"));
  EXPECT_THAT(text, Not(HasSubstr("step: 3/5")));
  EXPECT_THAT(text, HasSubstr("tps: 1,429"));  // steps 3 and 4: 10000 tokens in 7 s
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
}

TEST(Progress, RedrawsABarOnATerminal) {
  std::ostringstream out;
  Progress progress(out, /*terminal=*/true, 10, 100);
  for (std::int64_t step = 1; step <= 5; ++step) progress.step(record(step));
  EXPECT_THAT(out.str(), HasSubstr("[###############...............]  50%  step 5/10"));
  EXPECT_THAT(out.str(), HasSubstr("0:10 left"));
}

TEST(Progress, TheBarFitsATerminalOfEightyColumns) {
  std::ostringstream out;
  Progress progress(out, /*terminal=*/true, 1'000'000, 1'000'000);
  progress.step(record(1));
  const std::string text = out.str();
  const std::size_t bar = text.rfind('[', text.rfind(']'));
  EXPECT_LT(text.rfind('\r') - bar, 80u) << text.substr(bar);
}

TEST(Progress, NothingIsLeftOfTheBarWhenARunFails) {
  std::ostringstream out;
  { Progress(out, /*terminal=*/true, 10, 100).step(record(1)); }
  EXPECT_TRUE(out.str().ends_with("\r\x1b[K"));
  std::ostringstream plain;
  { Progress(plain, /*terminal=*/false, 10, 100).step(record(1)); }
  EXPECT_TRUE(plain.str().ends_with(")\n"));
}

TEST(Metrics, EveryLineIsAnObjectWithHuggingFacesNames) {
  const TempDirectory directory;
  std::ostringstream said;
  Logger log(said);
  MetricsFile metrics(directory / "metrics.jsonl", log);
  metrics.write(record(1));
  metrics.write(EvaluationRecord{.step = 1, .epoch = 0.5, .loss = 4.5, .seconds = 2});
  // Readable now, with the file still open.
  const std::vector<std::string> lines = lines_of(directory / "metrics.jsonl");
  ASSERT_EQ(lines.size(), 2u);
  const auto step = nlohmann::json::parse(lines[0]);
  EXPECT_EQ(step["step"], 1);
  EXPECT_EQ(step["loss"], 4.25);
  EXPECT_EQ(step["grad_norm"], 1.5);
  EXPECT_EQ(step["learning_rate"], 3e-4);
  EXPECT_EQ(step["tokens_per_second"], 2500);
  EXPECT_EQ(step["host_bytes"], 300_MiB);
  EXPECT_EQ(step["read_bytes"], 3'000'000'000);
  EXPECT_EQ(step["wait_share"], 0.25);
  EXPECT_EQ(step["hops"].size(), kHopCount);
  EXPECT_TRUE(step["hops"]["compute"].contains("busy_seconds"));
  const auto evaluation = nlohmann::json::parse(lines[1]);
  EXPECT_EQ(evaluation["eval_loss"], 4.5);
}

TEST(Metrics, ANumberThatIsNotFiniteIsNull) {
  const TempDirectory directory;
  std::ostringstream said;
  Logger log(said);
  MetricsFile metrics(directory / "metrics.jsonl", log);
  StepRecord diverged = record(1);
  diverged.loss = std::numeric_limits<double>::quiet_NaN();
  metrics.write(diverged);
  EXPECT_TRUE(nlohmann::json::parse(lines_of(directory / "metrics.jsonl")[0])["loss"].is_null());
}

TEST(Metrics, AFileThatCannotBeMadeIsAnError) {
  const TempDirectory directory;
  Logger log;
  EXPECT_THROW(MetricsFile(directory / "missing/metrics.jsonl", log), IoError);
}

TEST(Metrics, ALineThatCannotBeWrittenIsAWarningOnce) {
  std::ostringstream said;
  Logger log(said);
  MetricsFile full("/dev/full", log);
  EXPECT_NO_THROW(full.write(record(1)));
  EXPECT_NO_THROW(full.write(record(2)));
  const std::string text = said.str();
  EXPECT_THAT(text, AllOf(HasSubstr("warning: "), HasSubstr("/dev/full"), HasSubstr("ENOSPC"),
                          HasSubstr("the run goes on")));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

TEST(Metrics, AFileThatIsFullKeepsItsWholeLines) {
  const TempDirectory directory;
  std::ostringstream said;
  Logger log(said);
  MetricsFile metrics(directory / "metrics.jsonl", log);
  (void)std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{1000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  for (int step = 1; step <= 10; ++step) metrics.write(record(step));
  setrlimit(RLIMIT_FSIZE, &before);
  const std::vector<std::string> lines = lines_of(directory / "metrics.jsonl");
  ASSERT_FALSE(lines.empty());
  for (const std::string& line : lines) EXPECT_TRUE(nlohmann::json::accept(line)) << line;
  EXPECT_THAT(said.str(), HasSubstr("EFBIG"));
}

TEST(Summary, NamesLossSpeedPeaksBytesAndWaiting) {
  Summary summary;
  summary.model = "tiny";
  summary.parameters = 1234567;
  summary.steps = 10;
  summary.eval_loss_before = 5.5;
  summary.eval_loss_after = 2.25;
  summary.training = record(1).interval;
  summary.memory = record(1).memory;
  summary.rss_peak_bytes = 700_MiB;
  std::ostringstream out;
  print(out, summary);
  for (const char* part : {"1,234,567 parameters", "5.5000 -> 2.2500", "2,500 tokens/s",
                           "300 MiB of 400 MiB", "700 MiB", "1.50 GB/s", "25.0 %"}) {
    EXPECT_THAT(out.str(), HasSubstr(part));
  }
  EXPECT_EQ(nlohmann::json::parse(to_json(summary))["eval_loss"], 2.25);
}

TEST(Summary, CountsTheStepsThatChangedNothing) {
  Summary summary;
  summary.steps = 10;
  std::ostringstream none;
  print(none, summary);
  EXPECT_THAT(none.str(), Not(HasSubstr("skipped")));
  EXPECT_EQ(nlohmann::json::parse(to_json(summary))["skipped_steps"], 0);
  summary.skipped_steps = 3;
  std::ostringstream out;
  print(out, summary);
  EXPECT_THAT(out.str(), HasSubstr("3 of these steps"));
  EXPECT_EQ(nlohmann::json::parse(to_json(summary))["skipped_steps"], 3);
}

TEST(ReadableText, KeepsTextAndEscapesTheRest) {
  const auto readable = [](const std::string& bytes) {
    std::vector<std::int64_t> tokens;
    for (const char byte : bytes) tokens.push_back(static_cast<unsigned char>(byte));
    return readable_text(tokens);
  };
  EXPECT_EQ(readable("a line\nand \xC3\xA9, \xE2\x82\xAC, \xF0\x9F\x98\x80"),
            "a line\nand \xC3\xA9, \xE2\x82\xAC, \xF0\x9F\x98\x80");
  EXPECT_EQ(readable("\x1b[2J"), "\\x1B[2J");
  EXPECT_EQ(readable("cut \xE2\x82"), "cut \\xE2\\x82");
  EXPECT_EQ(readable("\xC0\xAF \xED\xA0\x80"), "\\xC0\\xAF \\xED\\xA0\\x80");
  EXPECT_EQ(readable_text(std::vector<std::int64_t>{65, 50256}), "A<50256>");
  EXPECT_EQ(id_list(std::vector<std::int64_t>{65, 50256}), "65 50256");
}

}  // namespace
}  // namespace strata::tool::report_test
