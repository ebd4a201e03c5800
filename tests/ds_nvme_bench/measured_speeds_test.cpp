#include "measured_speeds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "strata/base/error.h"
#include "support/message_of.h"

namespace strata::nvme_bench::measured_speeds_test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(MeasuredSpeeds, AreThoseThatTuneChose) {
  const DiskSpeeds speeds =
      speeds_in_result(
          R"({"chosen": {"read_bytes_per_second": 7e9, "write_bytes_per_second": 5e9,
          "mixed_read_bytes_per_second": 3e9, "mixed_write_bytes_per_second": 2e9}})",
          "tune.json")
          .speeds;
  EXPECT_DOUBLE_EQ(speeds.read, 7e9);
  EXPECT_DOUBLE_EQ(speeds.write, 5e9);
  EXPECT_DOUBLE_EQ(speeds.mixed_read, 3e9);
  EXPECT_DOUBLE_EQ(speeds.mixed_write, 2e9);
}

/// A job of fio's format. `group` negative: without one.
struct Job {
  int group;
  std::string options;
  double read, write;
  int error = 0;
};

std::string text_of(const std::vector<Job>& jobs,
                    const std::string& head = R"("fio version": "fio-3.33")") {
  std::ostringstream text;
  text << "{" << head << ", \"jobs\": [";
  for (const Job& job : jobs) {
    if (&job != &jobs.front()) text << ", ";
    text << R"({"jobname": "j", "error": )" << job.error << R"(, "job options": {)" << job.options
         << R"(}, "read": {"bw_bytes": )" << job.read << R"(}, "write": {"bw_bytes": )" << job.write
         << "}";
    if (job.group >= 0) text << R"(, "groupid": )" << job.group;
    text << "}";
  }
  text << "]}\n";
  return text.str();
}

const std::string kRead = R"("rw": "read")";
const std::string kWrite = R"("rw": "write")";
const std::string kMixed = R"("rw": "rw")";
const std::string kRandom = R"("rw": "randread")";

DiskSpeeds speeds_of(const std::vector<Job>& jobs) {
  return speeds_in_result(text_of(jobs), "fio.json").speeds;
}

std::string refusal_of(const std::string& text) {
  return support::message_of<DataError>([&] { (void)speeds_in_result(text, "fio.json"); });
}

TEST(MeasuredSpeeds, AreTheFastestOfEachDirectionInFiosFormat) {
  const DiskSpeeds speeds = speeds_of({{-1, kRead, 6000, 0},
                                       {-1, kRead, 7000, 0},
                                       {-1, kWrite, 0, 5000},
                                       {-1, kMixed, 3000, 2000},
                                       {-1, kRandom, 90000, 0}});
  EXPECT_DOUBLE_EQ(speeds.read, 7000);
  EXPECT_DOUBLE_EQ(speeds.write, 5000);
  EXPECT_DOUBLE_EQ(speeds.mixed_read, 3000);
}

TEST(MeasuredSpeeds, JobsOfOneGroupRanAtOnceAndAddUp) {
  const DiskSpeeds speeds = speeds_of({{0, kRead, 2000, 0},
                                       {0, kRead, 1500, 0},
                                       {1, kWrite, 0, 1000},
                                       {1, kWrite, 0, 800},
                                       {2, kMixed, 700, 300},
                                       {2, kMixed, 600, 200}});
  EXPECT_DOUBLE_EQ(speeds.read, 3500);
  EXPECT_DOUBLE_EQ(speeds.write, 1800);
  EXPECT_DOUBLE_EQ(speeds.mixed_read, 1300);
  EXPECT_DOUBLE_EQ(speeds.mixed_write, 500);
}

TEST(MeasuredSpeeds, JobsOfDifferentGroupsDoNotAddUp) {
  const DiskSpeeds speeds =
      speeds_of({{0, kRead, 2000, 0}, {1, kRead, 2500, 0}, {2, kWrite, 0, 1000}});
  EXPECT_DOUBLE_EQ(speeds.read, 2500);
}

TEST(MeasuredSpeeds, JobsOfThisProgramRanOneAfterTheOther) {
  // All in group 0, as it wrote them at first.
  const std::string text = text_of({{0, kRead, 2000, 0}, {0, kRead, 2500, 0}, {0, kWrite, 0, 900}},
                                   R"("ds_nvme_bench version": "0.1.0")");
  EXPECT_DOUBLE_EQ(speeds_in_result(text, "run.json").speeds.read, 2500);
}

TEST(MeasuredSpeeds, AGroupThatReadsAndWritesIsAMixedMeasurement) {
  const DiskSpeeds speeds = speeds_of(
      {{0, kRead, 2000, 0}, {1, kWrite, 0, 1000}, {2, kRead, 900, 0}, {2, kWrite, 0, 600}});
  EXPECT_DOUBLE_EQ(speeds.read, 2000);
  EXPECT_DOUBLE_EQ(speeds.write, 1000);
  EXPECT_DOUBLE_EQ(speeds.mixed_read, 900);
  EXPECT_DOUBLE_EQ(speeds.mixed_write, 600);
}

TEST(MeasuredSpeeds, AGroupInOneEntryIsWhatItsFiguresSay) {
  const std::string grouped = R"(, "group_reporting": "")";
  const DiskSpeeds speeds =
      speeds_of({{0, kRead + grouped, 3500, 0},
                 {1, kWrite + grouped, 0, 1800},
                 {2, kRead + grouped, 5000, 600},
                 // Read back after it was written, not at the same time.
                 {3, kWrite + grouped + R"(, "verify": "crc32c")", 90, 1900}});
  EXPECT_DOUBLE_EQ(speeds.read, 3500);
  EXPECT_DOUBLE_EQ(speeds.write, 1900);
  EXPECT_DOUBLE_EQ(speeds.mixed_read, 5000);
}

TEST(MeasuredSpeeds, AreNotTakenBesideRandomJobsOfTheGroup) {
  const std::string text =
      refusal_of(text_of({{0, kRead, 2000, 0}, {0, kRandom, 500, 0}, {1, kWrite, 0, 1000}}));
  EXPECT_THAT(text, HasSubstr("no sequential read"));
}

TEST(MeasuredSpeeds, OptionsOfAllJobsCountToo) {
  const std::string jobs = text_of({{0, "", 2000, 0}, {1, kWrite, 0, 1000}},
                                   R"("global options": {"rw": "read", "bs": "1M"})");
  EXPECT_DOUBLE_EQ(speeds_in_result(jobs, "fio.json").speeds.read, 2000);
  // Without any, fio reads.
  EXPECT_DOUBLE_EQ(speeds_of({{0, "", 2000, 0}, {1, kWrite, 0, 1000}}).read, 2000);
}

TEST(MeasuredSpeeds, AreFoundAmongWhatFioPrintsAroundThem) {
  const std::string json = text_of({{0, kRead, 2000, 0}, {1, kWrite, 0, 1000}});
  const MeasuredSpeeds quiet = speeds_in_result(
      "note: both iodepth >= 1 and synchronous I/O engine are selected\n"
      "j: (g=0): rw=read, bs=(R) 1024KiB-1024KiB\n...\nfio-3.33\n"
      "Jobs: 1 (f=1): [R(1)][100.0%]\r\n" +
          json + "j: (groupid=0, jobs=2): err= 0: pid=29291\n  read: IOPS=914\n",
      "fio.json");
  EXPECT_DOUBLE_EQ(quiet.speeds.read, 2000);
  EXPECT_THAT(quiet.warnings, IsEmpty());

  for (const char* line : {"fio: io_u error on file d/x: Input/output error: read offset=1",
                           "fio: terminating on signal 2", "hwmon: error 5",
                           "j: (groupid=0, jobs=1): err= 5 (file:io_u.c:1747): pid=29291"}) {
    for (const std::string& text : {std::string(line) + "\n" + json, json + line}) {
      const MeasuredSpeeds measured = speeds_in_result(text, "fio.json");
      EXPECT_DOUBLE_EQ(measured.speeds.read, 2000);
      EXPECT_THAT(measured.warnings, ElementsAre(AllOf(HasSubstr("fio.json"), HasSubstr(line))));
    }
  }
}

TEST(MeasuredSpeeds, AJobThatFailedIsAWarning) {
  const MeasuredSpeeds measured =
      speeds_in_result(text_of({{0, kRead, 2000, 0, 5}, {1, kWrite, 0, 1000}}), "fio.json");
  EXPECT_THAT(measured.warnings,
              ElementsAre(AllOf(HasSubstr("'j'"), HasSubstr("Input/output error"))));
}

TEST(MeasuredSpeeds, OfSeveralResultsTheLastOneCounts) {
  const MeasuredSpeeds measured = speeds_in_result(
      text_of({{0, kRead, 9000, 0}}) + text_of({{0, kRead, 2000, 0}, {1, kWrite, 0, 1000}}),
      "fio.json");
  EXPECT_DOUBLE_EQ(measured.speeds.read, 2000);
  EXPECT_THAT(measured.warnings, ElementsAre(HasSubstr("2 results")));
}

TEST(MeasuredSpeeds, AResultThatEndsTooEarlyIsRefusedAsThat) {
  const std::string whole = text_of({{0, kRead, 2000, 0}, {1, kWrite, 0, 1000}});
  const std::size_t end = whole.find_last_of('}');
  for (std::size_t length = 1; length <= end; ++length)
    for (const char* after : {"", "\n"})
      ASSERT_THAT(refusal_of("note: x\n" + whole.substr(0, length) + after),
                  HasSubstr("fio.json: ends in the middle of its JSON"))
          << length;
  EXPECT_THAT(refusal_of("{\"jobs\": [nonsense]}"), HasSubstr("damaged"));
  EXPECT_THAT(refusal_of("fio: cannot open d\n"), HasSubstr("holds no JSON"));
  EXPECT_THAT(refusal_of("\n"), HasSubstr("is empty"));
}

TEST(MeasuredSpeeds, AMissingDirectionIsNamedWithWhatWentWrong) {
  EXPECT_THAT(refusal_of("fio: io_u error\n" + text_of({{0, kRead, 6000, 0}})),
              AllOf(HasSubstr("fio.json: has no sequential write"), HasSubstr("io_u error")));
}

TEST(MeasuredSpeeds, OtherFilesAreRefused) {
  for (const char* text : {"", "[]", "{}", "{\"jobs\": 3}", "{\"jobs\": [{}]}", "{\"chosen\": {}}",
                           "{\"chosen\": {\"read_bytes_per_second\": \"x\"}}", "{\"jobs\": [3]}"}) {
    EXPECT_THROW((void)speeds_in_result(text, "x"), DataError) << text;
  }
  EXPECT_THROW((void)speeds_from_file("/nonexistent/result.json"), IoError);
}

}  // namespace
}  // namespace strata::nvme_bench::measured_speeds_test
