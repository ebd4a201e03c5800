#include "measured_speeds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "strata/base/error.h"

namespace strata::bench {
namespace {

using ::testing::HasSubstr;

TEST(MeasuredSpeeds, AreThoseThatTuneChose) {
  const DiskSpeeds speeds = speeds_in_result(
      R"({"chosen": {"read_bytes_per_second": 7e9, "write_bytes_per_second": 5e9,
          "mixed_read_bytes_per_second": 3e9, "mixed_write_bytes_per_second": 2e9}})",
      "tune.json");
  EXPECT_DOUBLE_EQ(speeds.read, 7e9);
  EXPECT_DOUBLE_EQ(speeds.write, 5e9);
  EXPECT_DOUBLE_EQ(speeds.mixed_read, 3e9);
  EXPECT_DOUBLE_EQ(speeds.mixed_write, 2e9);
}

std::string job(const std::string& workload, const std::string& read, const std::string& write) {
  return R"({"job options": {"rw": ")" + workload + R"("}, "read": {"bw_bytes": )" + read +
         R"(}, "write": {"bw_bytes": )" + write + "}}";
}

TEST(MeasuredSpeeds, AreTheFastestOfEachDirectionInFiosFormat) {
  const std::string text = R"({"fio version": "fio-3.33", "jobs": [)" + job("read", "6000", "0") +
                           "," + job("read", "7000", "0") + "," + job("write", "0", "5000") + "," +
                           job("rw", "3000", "2000") + "," + job("randread", "90000", "0") + "]}";
  const DiskSpeeds speeds = speeds_in_result(text, "fio.json");
  EXPECT_DOUBLE_EQ(speeds.read, 7000);
  EXPECT_DOUBLE_EQ(speeds.write, 5000);
  EXPECT_DOUBLE_EQ(speeds.mixed_read, 3000);
}

TEST(MeasuredSpeeds, AMissingDirectionIsNamed) {
  try {
    (void)speeds_in_result(R"({"jobs": [)" + job("read", "6000", "0") + "]}", "fio.json");
    FAIL() << "planned without writes";
  } catch (const DataError& error) {
    EXPECT_THAT(error.what(), HasSubstr("fio.json: has no sequential write"));
  }
}

TEST(MeasuredSpeeds, OtherFilesAreRefused) {
  for (const char* text : {"", "[]", "{}", "{\"jobs\": 3}", "{\"jobs\": [{}]}", "{\"chosen\": {}}",
                           "{\"chosen\": {\"read_bytes_per_second\": \"x\"}}", "{\"jobs\": [3]}"}) {
    EXPECT_THROW((void)speeds_in_result(text, "x"), DataError) << text;
  }
  EXPECT_THROW((void)speeds_from_file("/nonexistent/result.json"), IoError);
}

}  // namespace
}  // namespace strata::bench
