#include "report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "number_text.h"
#include "overview.h"
#include "strata/base/units.h"

namespace strata::nvme_bench::report_test {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

aio::DiskDescription disk_of(const std::string& directory, const std::string& file_system,
                             bool rotational = false) {
  aio::DiskDescription disk;
  disk.directory = directory;
  disk.file_system = file_system;
  disk.device = "nvme0n1";
  disk.rotational = rotational;
  return disk;
}

/// 1000 reads of 1 MiB in 2 s, of 1 ms to 1000 ms.
Report report_of(Workload workload) {
  Report report;
  PointResult& result = report.result;
  result.point.workload = workload;
  result.engine = "io_uring";
  result.seconds = 2;
  result.user_cpu_seconds = 0.5;
  result.system_cpu_seconds = 1;
  result.read.bytes = 1000_MiB;
  result.read.requests = 1000;
  result.read.seconds = 2;
  for (int i = 1; i <= 1000; ++i) result.read.latency.add(std::chrono::milliseconds(i));
  for (int i = 0; i < 20; ++i) {
    result.windows.push_back({.seconds = 0.1, .bytes_read = (45 + 10 * (i % 2)) * 1_MiB});
  }
  report.directories = {"/mnt/a,b"};
  report.disks = {disk_of("/mnt/a,b", "ext4")};
  report.bytes = 2_GiB;
  report.disk_use = {{.name = "nvme0n1", .read_ios = 1100, .busy_ticks = 1100}};
  report.notes = {"a note"};
  return report;
}

nlohmann::json parsed(const Report& report) {
  return nlohmann::json::parse(to_json({&report, 1}, 2));
}

TEST(ReportJson, HasFiosFieldsInFiosUnits) {
  const nlohmann::json json = parsed(report_of(Workload::kRead));
  EXPECT_TRUE(json.contains("ds_nvme_bench version"));
  EXPECT_TRUE(json.at("global options").is_object());
  const nlohmann::json& job = json.at("jobs").at(0);
  EXPECT_EQ(job.at("jobname"), "read");
  EXPECT_EQ(job.at("error"), 0);
  EXPECT_EQ(job.at("job options").at("bs"), "1m");
  EXPECT_EQ(job.at("job options").at("iodepth"), "32");
  EXPECT_DOUBLE_EQ(job.at("usr_cpu"), 25);
  EXPECT_DOUBLE_EQ(job.at("sys_cpu"), 50);
  const nlohmann::json& read = job.at("read");
  EXPECT_EQ(read.at("io_bytes"), 1000_MiB);
  EXPECT_EQ(read.at("bw_bytes"), 500_MiB);
  EXPECT_EQ(read.at("bw"), 500 * 1024);
  EXPECT_DOUBLE_EQ(read.at("iops"), 500);
  EXPECT_EQ(read.at("runtime"), 2000);
  EXPECT_EQ(read.at("total_ios"), 1000);
  EXPECT_EQ(read.at("clat_ns").at("min"), 1'000'000);
  EXPECT_EQ(read.at("clat_ns").at("max"), 1'000'000'000);
  EXPECT_EQ(read.at("clat_ns").at("N"), 1000);
  EXPECT_NEAR(read.at("clat_ns").at("percentile").at("50.000000"), 500e6, 8e6);
  EXPECT_NEAR(read.at("clat_ns").at("percentile").at("99.900000"), 999e6, 16e6);
  EXPECT_NEAR(read.at("lat_ns").at("mean"), 500.5e6, 1);
  EXPECT_EQ(read.at("bw_min"), 450 * 1024);
  EXPECT_EQ(read.at("bw_max"), 550 * 1024);
  EXPECT_EQ(read.at("bw_samples"), 20);
  EXPECT_EQ(job.at("write").at("total_ios"), 0);
  EXPECT_EQ(job.at("trim").at("io_bytes"), 0);
  EXPECT_EQ(json.at("disk_util").at(0).at("name"), "nvme0n1");
  EXPECT_NEAR(json.at("disk_util").at(0).at("util"), 50, 1e-9);
}

TEST(ReportJson, KeepsWhatFioHasNoFieldForUnderOneKey) {
  const nlohmann::json strata =
      parsed(report_of(Workload::kTrainStep)).at("jobs").at(0).at("strata");
  EXPECT_EQ(strata.at("workload"), "trainstep");
  EXPECT_EQ(strata.at("engine"), "io_uring");
  EXPECT_EQ(strata.at("disks").at(0).at("device"), "nvme0n1");
  EXPECT_EQ(strata.at("windows").size(), 20u);
  EXPECT_THAT(strata.at("notes"), Contains("a note"));
  EXPECT_THAT(strata.at("fio_command").get<std::string>(), HasSubstr("--rw=rw --rwmixread=54"));
}

TEST(ReportJson, SaysEioWhenRequestsFailed) {
  Report report = report_of(Workload::kRead);
  report.result.read.errors = 3;
  report.result.first_error = "read of \xff: EIO";
  EXPECT_EQ(parsed(report).at("jobs").at(0).at("error"), EIO);
}

TEST(ReportLines, AreOneForEachReport) {
  const std::vector<Report> reports{report_of(Workload::kRead), report_of(Workload::kRandRead)};
  std::ostringstream out;
  write_reports(out, reports, Format::kJsonLines);
  std::istringstream lines(out.str());
  std::string line;
  std::vector<std::string> names;
  while (std::getline(lines, line)) {
    names.push_back(nlohmann::json::parse(line).at("jobs").at(0).at("jobname"));
  }
  EXPECT_THAT(names, testing::ElementsAre("read", "randread"));
}

TEST(ReportCsv, HasAsManyFieldsInEachLineAndQuotesCommas) {
  const std::vector<Report> reports{report_of(Workload::kRead), report_of(Workload::kRandRead)};
  std::ostringstream out;
  write_reports(out, reports, Format::kCsv);
  std::istringstream lines(out.str());
  std::string names, first, second, none;
  std::getline(lines, names);
  std::getline(lines, first);
  std::getline(lines, second);
  EXPECT_FALSE(std::getline(lines, none));
  EXPECT_THAT(names, HasSubstr("gb_per_s"));
  EXPECT_THAT(names, HasSubstr("lat_p99.99_ns"));
  EXPECT_THAT(first, HasSubstr("\"/mnt/a,b\",read,read,io_uring,1048576,32,1,1"));
  EXPECT_EQ(std::count(names.begin(), names.end(), ',') + 1,
            std::count(first.begin(), first.end(), ','));  // one inside the quotes
}

TEST(ReportMarkdown, IsATable) {
  const Report report = report_of(Workload::kRead);
  std::ostringstream out;
  write_reports(out, {&report, 1}, Format::kMarkdown);
  EXPECT_THAT(out.str(), HasSubstr("| figure | value |\n|---|---|\n"));
  EXPECT_THAT(out.str(), HasSubstr("| iops | 500.0 |\n"));
}

TEST(ReportTable, ShowsRatesLatenciesCostAndTheSameForFio) {
  const Report report = report_of(Workload::kRead);
  std::ostringstream out;
  write_reports(out, {&report, 1}, Format::kTable);
  for (const char* text :
       {"read", "0.524", "0.488", "500", "99.99%", "1.00 ms", "cpu: 1.43 s per GB", "errors: 0",
        "note: a note", "ext4 on nvme0n1", "fio: fio --name=read"}) {
    EXPECT_THAT(out.str(), HasSubstr(text));
  }
  EXPECT_THAT(out.str(), Not(HasSubstr("write ")));
}

TEST(FioCommand, SharesTheFilesAmongThreadsAsTheRunnerDoes) {
  Report report = report_of(Workload::kRandWrite);
  report.directories = {"/a", "/b:c"};
  report.result.point.threads = 2;
  report.result.point.prepare = false;
  const std::string command = fio_command(report);
  EXPECT_THAT(command, HasSubstr("--filename='/a/ds_nvme_bench.fio:/b\\:c/ds_nvme_bench.fio'"));
  EXPECT_THAT(command, HasSubstr("--filesize=1g --size=1g --offset_increment=512m"));
  EXPECT_THAT(command, HasSubstr("--numjobs=2"));
  EXPECT_THAT(command, Not(HasSubstr("--fixedbufs")));
  report.result.engine = "threads (io_uring: EPERM)";
  EXPECT_THAT(fio_command(report), HasSubstr("--ioengine=psync --numjobs=64"));
}

TEST(Notes, SayWhatMakesFiguresMeanLess) {
  const auto notes = [](const Point& point, std::uint64_t bytes, const aio::DiskDescription& disk) {
    std::string all;
    for (const std::string& note : notes_on(point, bytes, {disk})) all += note + "\n";
    return all;
  };
  const aio::DiskDescription good = disk_of("/d", "ext4");
  const Point plain{.huge_pages = false};
  EXPECT_EQ(notes(plain, 1_GiB, good), "");
  EXPECT_THAT(notes({.direct = false}, 1_MiB, good), HasSubstr("page cache"));
  EXPECT_THAT(notes({.workload = Workload::kWrite}, 1_GiB, good), HasSubstr("drive's own cache"));
  EXPECT_THAT(notes({.engine = IoBackend::kNull}, 1_GiB, good), HasSubstr("null engine"));
  EXPECT_THAT(notes(plain, 1_GiB, disk_of("/d", "tmpfs")), HasSubstr("tmpfs"));
  EXPECT_THAT(notes(plain, 1_GiB, disk_of("/d", "overlay")), HasSubstr("overlay"));
  EXPECT_THAT(notes(plain, 1_GiB, disk_of("/d", "ext4", true)), HasSubstr("rotating"));
}

TEST(Overview, SaysWhatARateMeansForAModel) {
  std::ostringstream out;
  PointResult step;
  step.seconds = 1;
  step.read.bytes = 1'400'000'000;
  step.write.bytes = 1'200'000'000;
  write_model_table(out, step);
  EXPECT_THAT(out.str(), HasSubstr("1 billion     12 GB    10.0 s"));
  EXPECT_THAT(out.str(), HasSubstr("70 billion    840 GB     11:40"));
}

TEST(NumberText, IsShortAndExact) {
  EXPECT_EQ(fio_bytes(4096), "4k");
  EXPECT_EQ(fio_bytes(1536), "1536");
  EXPECT_EQ(fio_bytes(3_GiB), "3g");
  EXPECT_EQ(compact(0.012345), "0.0123");
  EXPECT_EQ(compact(123.4), "123");
  EXPECT_EQ(compact(12345.6), "12346");
  EXPECT_EQ(compact(0), "0");
  EXPECT_EQ(percent_text(50), "50");
  EXPECT_EQ(percent_text(99.5), "99.5");
  EXPECT_EQ(percent_text(99.99), "99.99");
  EXPECT_EQ(latency_text(812), "812 ns");
  EXPECT_EQ(latency_text(1'530'000), "1.53 ms");
  EXPECT_EQ(duration_text(65), "1:05");
}

}  // namespace
}  // namespace strata::nvme_bench::report_test
