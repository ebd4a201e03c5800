#include "report_html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "strata/base/units.h"
#include "support/markup_balance.h"

namespace strata::nvme_bench::report_page_test {
namespace {

using testing::HasSubstr;
using testing::Not;

PointResult read_of(std::uint64_t block_bytes, double gigabytes) {
  PointResult result;
  result.point.block_bytes = block_bytes;
  result.engine = "io_uring";
  result.seconds = 1;
  result.read.bytes = static_cast<std::uint64_t>(gigabytes * 1e9);
  result.read.requests = result.read.bytes / block_bytes;
  result.read.seconds = 1;
  result.read.latency.add(std::chrono::milliseconds(2));
  for (int i = 0; i < 10; ++i) {
    result.windows.push_back({.seconds = 0.1, .bytes_read = result.read.bytes / 10});
  }
  return result;
}

Report report_of(const PointResult& result) {
  Report report;
  report.result = result;
  report.directories = {"/mnt/<a>"};
  report.disks.resize(1);
  report.disks[0].directory = "/mnt/<a>";
  report.disks[0].file_system = "ext4";
  report.bytes = 2_GiB;
  report.notes = {"a note"};
  return report;
}

TEST(ReportPage, OfARunShowsItsFiguresAndItsCourse) {
  Report report = report_of(read_of(1_MiB, 3.5));
  report.result.first_error = "read of /mnt/<a> failed";
  const std::string page = render_html(to_html_report(report));
  EXPECT_EQ(support::unbalanced(page), "");
  EXPECT_THAT(page, HasSubstr("3.50 GB/s"));
  EXPECT_THAT(page, HasSubstr("2.0"));  // ms
  EXPECT_THAT(page, HasSubstr("read over time"));
  EXPECT_THAT(page, HasSubstr("read of /mnt/&lt;a&gt; failed"));
  EXPECT_THAT(page, HasSubstr("ds_nvme_bench run /mnt/&lt;a&gt; --rw=read"));
  EXPECT_THAT(page, Not(HasSubstr("For the config")));
}

TEST(ReportPage, OfTheOverviewShowsEveryMeasurementAndTrial) {
  const std::vector<PointResult> trials{read_of(256_KiB, 2), read_of(1_MiB, 3), read_of(4_MiB, 2)};
  const std::vector<NamedReport> reports{{"sequential read", report_of(read_of(1_MiB, 3.5))},
                                         {"small", report_of(read_of(4_KiB, 0.4096))}};
  const std::string page = render_html(to_html_report(reports, trials));
  EXPECT_EQ(support::unbalanced(page), "");
  EXPECT_THAT(page, HasSubstr("5 measurements"));
  EXPECT_THAT(page, HasSubstr("3.50 GB/s"));
  EXPECT_THAT(page, HasSubstr("100000 IOPS"));
  EXPECT_THAT(page, HasSubstr("Read: the most at each block size"));
  EXPECT_EQ(page.find("a note"), page.rfind("a note")) << "said once";
}

}  // namespace
}  // namespace strata::nvme_bench::report_page_test
