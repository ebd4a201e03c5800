#include "report_html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "strata/base/units.h"
#include "support/markup_balance.h"
#include "svg_chart.h"

namespace strata::nvme_bench::report_html_test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

PointResult measured(Workload workload, IoBackend engine, std::uint64_t block, std::uint32_t depth,
                     double gigabytes_per_second) {
  PointResult result;
  result.point = {.workload = workload, .engine = engine, .block_bytes = block, .depth = depth};
  result.seconds = 1;
  DirectionResult& direction = workload == Workload::kRead ? result.read : result.write;
  direction.bytes = static_cast<std::uint64_t>(gigabytes_per_second * 1e9);
  direction.requests = direction.bytes / block;
  direction.seconds = 1;
  direction.latency.add(std::chrono::microseconds(500));
  for (int i = 0; i < 10; ++i) {
    result.windows.push_back({.seconds = 0.1,
                              .bytes_read = result.read.bytes / 10,
                              .bytes_written = result.write.bytes / 10});
  }
  return result;
}

HtmlReport sample() {
  HtmlReport report;
  report.title = "Disk of a machine";
  report.figures = {{"read", "3.70 GB/s"}};
  report.facts = {{"disk", "Samsung <990>"}};
  report.notes = {"2 GiB fit & more"};
  report.config = "{\"aio\": {}}";
  for (const std::uint64_t block : {256_KiB, 1_MiB}) {
    for (const std::uint32_t depth : {4u, 16u}) {
      report.points.push_back(measured(Workload::kRead, IoBackend::kIoUring, block, depth, 3.5));
      report.points.push_back(measured(Workload::kWrite, IoBackend::kIoUring, block, depth, 2.5));
    }
  }
  report.time_line = report.points.front();
  return report;
}

TEST(HtmlReport, IsWellFormedAndNeedsNothingElse) {
  const std::string page = render_html(sample());
  EXPECT_EQ(support::unbalanced(page), "");
  for (const char* text : {"http", "<script", "src=", "@import", "url("}) {
    EXPECT_THAT(page, Not(HasSubstr(text)));
  }
  EXPECT_THAT(page, HasSubstr("prefers-color-scheme:dark"));
}

TEST(HtmlReport, ShowsEveryMeasurementAndEscapesEveryText) {
  const std::string page = render_html(sample());
  EXPECT_THAT(page, HasSubstr("8 measurements"));
  EXPECT_THAT(page, HasSubstr("Samsung &lt;990&gt;"));
  EXPECT_THAT(page, HasSubstr("2 GiB fit &amp; more"));
  EXPECT_THAT(page, HasSubstr("{&quot;aio&quot;: {}}"));
}

TEST(HtmlReport, LeavesOutSectionsWithoutContent) {
  HtmlReport empty;
  empty.title = "empty";
  const std::string page = render_html(empty);
  EXPECT_EQ(support::unbalanced(page), "");
  EXPECT_THAT(page, Not(HasSubstr("<h2>")));
}

TEST(ReportCharts, DrawThroughputAndLatencyOfEachEngineAndDirection) {
  const auto charts = charts_of(sample().points);
  ASSERT_EQ(charts.size(), 6u);  // over block: read, write; over depth: speed and latency of both
  EXPECT_EQ(charts[2].title, "io_uring read throughput, by block size");
  EXPECT_EQ(charts[2].series.size(), 2u);
  EXPECT_EQ(charts[2].series[0].name, "256 KiB");
}

TEST(ReportCharts, DrawTheMedianOfSeveralMeasurements) {
  std::vector<PointResult> points;
  for (const double speed : {1.0, 9.0, 2.0}) {
    points.push_back(measured(Workload::kRead, IoBackend::kThreads, 1_MiB, 4, speed));
  }
  points.push_back(measured(Workload::kRead, IoBackend::kThreads, 1_MiB, 8, 3.0));
  const auto charts = charts_of(points);
  ASSERT_FALSE(charts.empty());
  EXPECT_DOUBLE_EQ(charts[0].series[0].points[0].y, 2.0);
}

TEST(ReportCharts, OnePlaceIsNoCurve) {
  const std::vector<PointResult> one = {
      measured(Workload::kRead, IoBackend::kThreads, 1_MiB, 4, 1.0)};
  EXPECT_TRUE(charts_of(one).empty());
}

TEST(ReportCharts, TheTimeLineHasALineForEachDirectionUsed) {
  const auto chart = time_line_of(measured(Workload::kWrite, IoBackend::kThreads, 1_MiB, 4, 2.0));
  ASSERT_EQ(chart.series.size(), 1u);
  EXPECT_EQ(chart.series[0].name, "write");
  EXPECT_NEAR(chart.series[0].points.front().y, 2.0, 1e-6);
}

TEST(Markup, EscapesWhatHasAMeaningAndDropsControlCharacters) {
  EXPECT_EQ(tool::escape_markup("a<b>&\"'\x01z"), "a&lt;b&gt;&amp;&quot;&#39; z");
}

}  // namespace
}  // namespace strata::nvme_bench::report_html_test
