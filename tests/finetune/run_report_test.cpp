#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <regex>
#include <sstream>

#include "metrics.h"
#include "overlap_picture.h"
#include "report.h"
#include "report_numbers.h"
#include "report_page.h"
#include "run_record.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "strata/formats/chrome_trace.h"
#include "support/markup_balance.h"
#include "support/message_of.h"
#include "support/temp_directory.h"
#include "trace_summary.h"

namespace strata::tool::run_report_test {
namespace {

using std::chrono::milliseconds;
using support::message_of;
using support::TempDirectory;
using support::unbalanced;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

StepRecord step_record(std::int64_t step) {
  StepRecord record;
  record.step = step;
  record.loss = 5.0 - 0.25 * static_cast<double>(step);
  record.lr = 3e-4;
  record.interval = {.seconds = 2,
                     .tokens = 5000,
                     .read_bytes = 3'000'000'000,
                     .written_bytes = 1'000'000'000,
                     .disk_wait_seconds = 0.5,
                     .disk_busy_seconds = 1};
  record.interval.busy_seconds[static_cast<std::size_t>(Hop::kCompute)] = 1.25;
  record.interval.wait_seconds[static_cast<std::size_t>(Hop::kFetch)] = 0.5;
  record.interval.hop_bytes[static_cast<std::size_t>(Hop::kFetch)] = 3'000'000'000;
  record.memory.used = {.device = 1_MiB, .host = 300_MiB, .nvme = 1_GiB};
  return record;
}

/// A directory with the metrics of `steps` steps and two evaluations.
class RunReport : public testing::Test {
 protected:
  void write_metrics(std::int64_t steps) {
    MetricsFile metrics(directory_ / "metrics.jsonl", log_);
    metrics.write(EvaluationRecord{.step = 0, .epoch = 0, .loss = 5.5, .seconds = 1});
    for (std::int64_t step = 1; step <= steps; ++step) metrics.write(step_record(step));
    metrics.write(EvaluationRecord{.step = steps, .epoch = 1, .loss = 4.125, .seconds = 1});
  }
  std::string text_of(const std::string& name) const {
    std::ifstream in(directory_ / name);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  TempDirectory directory_;
  std::ostringstream said_;
  Logger log_{said_};
};

// ---- metrics ---------------------------------------------------------------------------------

TEST_F(RunReport, ReadsWhatARunWrites) {
  write_metrics(3);
  const RunRecord run = read_run(directory_.path());
  EXPECT_EQ(run.name, directory_.path().filename().string());
  ASSERT_EQ(run.steps.size(), 3u);
  const RunStep& step = run.steps[1];
  EXPECT_EQ(step.step, 2);
  EXPECT_EQ(step.loss, 4.5);
  EXPECT_EQ(step.tokens_per_second, 2500);
  EXPECT_EQ(step.held.host, 300_MiB);
  EXPECT_EQ(step.read_bytes, 3'000'000'000u);
  EXPECT_EQ(step.wait_share, 0.25);
  const HopRecord& fetch = (*step.hops)[static_cast<std::size_t>(Hop::kFetch)];
  EXPECT_EQ(fetch.wait_seconds, 0.5);
  EXPECT_EQ(fetch.bytes, 3'000'000'000u);
  EXPECT_EQ(step.bound_share, 0.625);
  EXPECT_EQ(step.binds, "compute");
  ASSERT_EQ(run.evaluations.size(), 2u);
  EXPECT_EQ(run.evaluations[1].loss, 4.125);
}

TEST_F(RunReport, AnInfiniteLossIsNoDamage) {
  MetricsFile metrics(directory_ / "metrics.jsonl", log_);
  StepRecord diverged = step_record(1);
  diverged.loss = std::numeric_limits<double>::infinity();
  metrics.write(diverged);
  const RunRecord run = read_run(directory_.path());
  EXPECT_TRUE(std::isnan(run.steps[0].loss));
  const std::string page = report_page(run, nullptr);
  EXPECT_EQ(unbalanced(page), "");
  EXPECT_THAT(page, AllOf(HasSubstr("not finite"), Not(HasSubstr("nan"))));
}

TEST_F(RunReport, ADirectoryWithoutARunIsRefusedByName) {
  for (const auto& path : {directory_.path(), directory_ / "missing"}) {
    EXPECT_THAT(message_of<ConfigError>([&] { (void)read_run(path); }),
                AllOf(HasSubstr(path.string()), HasSubstr("metrics.jsonl"), HasSubstr("--output")));
  }
  directory_.write("metrics.jsonl", "");
  EXPECT_THAT(message_of<DataError>([&] { (void)read_run(directory_.path()); }),
              HasSubstr("no step"));
}

TEST_F(RunReport, DamagedMetricsAreRefusedWithTheLine) {
  write_metrics(1);
  const std::string whole = text_of("metrics.jsonl");
  const std::string step =
      whole.substr(whole.find('\n') + 1, whole.rfind("{") - whole.find('\n') - 1);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string line = step;
    const std::size_t at = line.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return line.replace(at, from.size(), to);
  };
  for (const std::string& line :
       {step.substr(0, step.size() / 2), std::string("\n"), std::string("text\n"),
        std::string("[]\n"), std::string("{}\n"), with("\"loss\"", "\"lost\""),
        with("\"step\":1", "\"step\":\"one\""), with("\"step\":1", "\"step\":-1"),
        with("\"step_seconds\":2.0", "\"step_seconds\":-2.0"),
        with("\"read_bytes\":3000000000", "\"read_bytes\":-3"), with("\"fetch\"", "\"fetched\""),
        with("\"step\":1", "\"step\":1,\"step\":2"), std::string("{\"eval_loss\":1}\n")}) {
    directory_.write("metrics.jsonl", whole + line);
    EXPECT_THAT(message_of<DataError>([&] { (void)read_run(directory_.path()); }),
                HasSubstr("metrics.jsonl:4:"))
        << line;
  }
  directory_.write("metrics.jsonl", whole + step);
  EXPECT_THAT(message_of<DataError>([&] { (void)read_run(directory_.path()); }),
              AllOf(HasSubstr("metrics.jsonl:4:"), HasSubstr("not above")));
}

// ---- what a trace comes to --------------------------------------------------------------------

Time at(int ms) { return Time(milliseconds(ms)); }

TEST(Stretches, MergeAndAreCutOut) {
  const Stretches merge =
      merged({{at(5), at(9)}, {at(1), at(3)}, {at(3), at(4)}, {at(6), at(7)}, {at(20), at(20)}});
  EXPECT_EQ(merge, (Stretches{{at(1), at(4)}, {at(5), at(9)}}));
  EXPECT_EQ(length_of(merge), milliseconds(7));
  EXPECT_EQ(without({{at(0), at(10)}, {at(20), at(30)}}, {{at(2), at(4)}, {at(9), at(22)}}),
            (Stretches{{at(0), at(2)}, {at(4), at(9)}, {at(22), at(30)}}));
  EXPECT_EQ(without({{at(0), at(10)}}, {}), (Stretches{{at(0), at(10)}}));
}

/// 100 ms: a fetch of 60 ms, the last 20 of which unit `blocks.0` is waited for, then work.
TimelineRecord step_of_100_ms() {
  Timeline timeline;
  const auto add = [&](SpanKind kind, Hop hop, std::string_view name, int begin, int end,
                       std::uint64_t bytes) {
    timeline.add({.kind = kind,
                  .hop = hop,
                  .name = name,
                  .bytes = bytes,
                  .begin = at(begin),
                  .end = at(end)});
  };
  add(SpanKind::kPhase, Hop::kFetch, "step 3", 0, 100, 0);
  add(SpanKind::kPhase, Hop::kFetch, "forward", 0, 90, 0);
  add(SpanKind::kTransfer, Hop::kFetch, "blocks.0 weight", 10, 50, 1000);
  add(SpanKind::kTransfer, Hop::kFetch, "blocks.1 weight", 30, 70, 2000);
  add(SpanKind::kWait, Hop::kFetch, "blocks.0", 30, 40, 0);
  add(SpanKind::kWait, Hop::kFetch, "blocks.0", 40, 50, 0);
  add(SpanKind::kWait, Hop::kFlush, "", 65, 80, 0);
  add(SpanKind::kBusy, Hop::kCompute, "blocks.0", 50, 90, 0);
  return timeline.read();
}

TEST(TraceSummary, TellsHiddenTimeFromExposed) {
  const TraceSummary summary = summary_of(step_of_100_ms());
  const TracedHop& fetch = summary.hops[static_cast<std::size_t>(Hop::kFetch)];
  EXPECT_EQ(fetch.bytes, 3000u);
  EXPECT_EQ(length_of(fetch.under_way), milliseconds(60));
  EXPECT_EQ(length_of(fetch.waited), milliseconds(20));
  EXPECT_EQ(fetch.hidden, milliseconds(35)) << "10 to 30 and 50 to 65";
  EXPECT_EQ(length_of(summary.hops[static_cast<std::size_t>(Hop::kCompute)].busy),
            milliseconds(40));
  ASSERT_EQ(summary.stalls.size(), 2u);
  EXPECT_EQ(summary.stalls[0].unit, "blocks.0");
  EXPECT_EQ(summary.stalls[0].times, 2u);
  EXPECT_EQ(summary.stalls[0].stood_still, milliseconds(20));
  EXPECT_EQ(summary.stalls[1].hop, Hop::kFlush);
  ASSERT_EQ(summary.steps.size(), 1u);
  EXPECT_EQ(summary.traced, milliseconds(100));
}

TEST(OverlapPicture, HasARowForWhatEachHopDidInsideOfThePicture) {
  const TraceSummary summary = summary_of(step_of_100_ms());
  const std::string svg = overlap_picture(summary, summary.steps[0]);
  EXPECT_EQ(unbalanced(svg), "");
  for (const char* row :
       {"step 3: 100 ms", "forward", "1 fetch: under way, 60.0 ms of 100 ms",
        "1 fetch: waiting, 20.0 ms of 100 ms", "4 compute: work, 40.0 ms of 100 ms",
        "8 flush: waiting, 15.0 ms of 100 ms"}) {
    EXPECT_THAT(svg, HasSubstr(row));
  }
  EXPECT_THAT(svg, Not(HasSubstr("upload")));
  const std::regex rectangle("<rect x=\"([0-9.]+)\" y=\"[0-9.]+\" width=\"([0-9.]+)\"");
  int count = 0;
  for (std::sregex_iterator each(svg.begin(), svg.end(), rectangle), end; each != end; ++each) {
    EXPECT_LE(std::stod((*each)[1]) + std::stod((*each)[2]), 1140);
    ++count;
  }
  EXPECT_EQ(count, 5) << "a row each, and the phase";
}

TEST(OverlapPicture, StaysSmallHoweverManySpansThereAre) {
  Timeline timeline;
  timeline.add({.kind = SpanKind::kPhase, .name = "step 1", .begin = at(0), .end = at(100'000)});
  for (int i = 0; i < 100'000; ++i) {
    timeline.add({.begin = at(i), .end = at(i) + std::chrono::microseconds(500)});
  }
  const TraceSummary summary = summary_of(timeline.read());
  EXPECT_LT(overlap_picture(summary, summary.steps[0]).size(), 10'000u);
}

// ---- the page --------------------------------------------------------------------------------

TEST_F(RunReport, ThePageSaysWhatTheMetricsSayAndLeavesOutTheRest) {
  write_metrics(4);
  RunRecord run = read_run(directory_.path());
  for (RunStep& step : run.steps) {
    step.bound_share.reset();
    step.binds.clear();
  }
  const std::string page = report_page(run, nullptr);
  EXPECT_EQ(unbalanced(page), "");
  for (const char* text : {"4.7500 → 4.0000", "5.5000 → 4.1250", "<b>2500.0</b>", "25.0 %",
                           "step 2: 4.5000", "314,572,800 bytes", "12,000,000,000", "1.500"}) {
    EXPECT_THAT(page, HasSubstr(text));
  }
  for (const char* text : {"bound", "binds", "traced", "http", "<script", "src="}) {
    EXPECT_THAT(page, Not(HasSubstr(text)));
  }
}

TEST_F(RunReport, ThePageShowsABoundThatTheMetricsHave) {
  write_metrics(2);
  RunRecord run = read_run(directory_.path());
  run.steps[0].bound_share = 0.5;
  run.steps[1].bound_share = 0.75;
  run.steps[0].binds = run.steps[1].binds = "disk";
  const std::string page = report_page(run, nullptr);
  EXPECT_THAT(page,
              AllOf(HasSubstr("62.5 %"), HasSubstr("<b>disk</b>"), HasSubstr("step 2: 75.0 %")));
}

TEST_F(RunReport, MetricsWithoutABoundAreRead) {
  write_metrics(1);
  std::string text = text_of("metrics.jsonl");
  const std::string bound = R"("bound_share":0.625,"binds":"compute",)";
  text.erase(text.find(bound), bound.size());
  directory_.write("metrics.jsonl", text);
  const RunRecord run = read_run(directory_.path());
  EXPECT_FALSE(run.steps[0].bound_share);
  EXPECT_EQ(run.steps[0].binds, "");
}

TEST_F(RunReport, ThePageOfALongRunIsBounded) {
  write_metrics(3);
  RunRecord run = read_run(directory_.path());
  while (run.steps.size() < 20'000) {
    run.steps.push_back(run.steps.back());
    ++run.steps.back().step;
  }
  const std::string page = report_page(run, nullptr);
  EXPECT_LT(page.size(), 1u << 20);
  EXPECT_THAT(page, AllOf(HasSubstr("500 of 20000 steps"), HasSubstr("step 20000: ")));
}

TEST_F(RunReport, EscapesTheNamesThatItShows) {
  write_metrics(1);
  RunRecord run = read_run(directory_.path());
  run.name = "<script>\"&";
  run.steps[0].binds = "<script>";
  Timeline timeline;
  timeline.add({.kind = SpanKind::kWait, .name = "<script>", .begin = at(0), .end = at(1)});
  const TimelineRecord trace = timeline.read();
  const std::string page = report_page(run, &trace);
  EXPECT_EQ(unbalanced(page), "");
  EXPECT_THAT(page, Not(HasSubstr("<script")));
}

TEST_F(RunReport, IsWrittenBesideTheMetricsOrWhereItIsWanted) {
  write_metrics(2);
  formats::write_chrome_trace(directory_ / "trace.json.gz", step_of_100_ms());
  std::ostringstream out;
  report({.run = directory_.path(), .output = std::nullopt}, out);
  EXPECT_EQ(out.str(), (directory_ / "report.html").string() + "\n");
  EXPECT_THAT(text_of("report.html"),
              AllOf(HasSubstr("step 3: 100 ms"), HasSubstr("<td class=\"text\">blocks.0</td>")));
  report({.run = directory_.path(), .output = directory_ / "other.html"}, out);
  EXPECT_EQ(text_of("other.html"), text_of("report.html"));
}

TEST_F(RunReport, NothingIsWrittenOfARunThatIsDamaged) {
  write_metrics(2);
  std::ostringstream out;
  directory_.write("trace.json.gz", "no trace");
  EXPECT_THAT(message_of<DataError>(
                  [&] { report({.run = directory_.path(), .output = std::nullopt}, out); }),
              HasSubstr("trace.json.gz"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "report.html"));
  EXPECT_EQ(out.str(), "");
}

TEST(ReportNumbers, HaveUnitsThatFit) {
  EXPECT_EQ(time_text(std::chrono::nanoseconds(812)), "812 ns");
  EXPECT_EQ(time_text(std::chrono::microseconds(84)), "84.0 us");
  EXPECT_EQ(time_text(milliseconds(1530)), "1.53 s");
  EXPECT_EQ(share_text(0.1234), "12.3 %");
  EXPECT_EQ(fixed_text(std::nan(""), 2), "not finite");
}

}  // namespace
}  // namespace strata::tool::run_report_test
