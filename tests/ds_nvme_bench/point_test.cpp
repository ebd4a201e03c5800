#include "point.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "options.h"
#include "report.h"
#include "strata/base/error.h"
#include "strata/base/units.h"
#include "support/message_of.h"

namespace strata::nvme_bench::point_test {
namespace {

using support::message_of;
using testing::HasSubstr;

TEST(Point, ReadsTheNamesThatItWrites) {
  for (const Workload workload :
       {Workload::kRead, Workload::kWrite, Workload::kReadWrite, Workload::kRandRead,
        Workload::kRandWrite, Workload::kRandRw, Workload::kTrainStep}) {
    EXPECT_EQ(parse_workload(name_of(workload)), workload);
  }
  for (const IoBackend engine : {IoBackend::kAuto, IoBackend::kIoUring, IoBackend::kLibaio,
                                 IoBackend::kThreads, IoBackend::kNull}) {
    EXPECT_EQ(parse_engine(name_of(engine)), engine);
  }
  EXPECT_EQ(parse_workload("rw"), Workload::kReadWrite);
}

TEST(Point, ListsWhatThereIsWhenANameIsUnknown) {
  EXPECT_THAT(message_of<ConfigError>([] { (void)parse_workload("reed"); }), HasSubstr("randread"));
  EXPECT_THAT(message_of<ConfigError>([] { (void)parse_engine("uring"); }), HasSubstr("io_uring"));
  EXPECT_THAT(message_of<ConfigError>([] { (void)parse_format("xml"); }), HasSubstr("jsonl"));
}

TEST(Point, RefusesNumbersThatNoDiskTakes) {
  EXPECT_EQ(message_of<ConfigError>([] { check(Point{}); }), support::kNothingThrown);
  EXPECT_THAT(message_of<ConfigError>([] { check({.block_bytes = 1000}); }), HasSubstr("512"));
  EXPECT_THAT(message_of<ConfigError>([] { check({.block_bytes = 0}); }), HasSubstr("--bs"));
  EXPECT_THAT(message_of<ConfigError>([] { check({.depth = 0}); }), HasSubstr("--iodepth"));
  EXPECT_THAT(message_of<ConfigError>([] { check({.threads = 1000}); }), HasSubstr("--threads"));
}

TEST(Point, SaysWhatAThreadsPartOfTheFilesMustHold) {
  EXPECT_EQ(message_of<ConfigError>([] { check_fits({.threads = 4}, 4_MiB, 1); }),
            support::kNothingThrown);
  EXPECT_THAT(message_of<ConfigError>([] { check_fits({.threads = 5}, 4_MiB, 1); }),
              HasSubstr("--threads"));
  const Point step{.workload = Workload::kTrainStep};
  EXPECT_EQ(message_of<ConfigError>([&] { check_fits(step, 12_MiB, 1); }), support::kNothingThrown);
  EXPECT_THAT(message_of<ConfigError>([&] { check_fits(step, 11_MiB, 1); }), HasSubstr("12.0 MiB"));
  EXPECT_EQ(message_of<ConfigError>([&] { check_fits(step, 6_MiB, 2); }), support::kNothingThrown);
}

TEST(Options, ReadTimesWithAndWithoutUnits) {
  using namespace std::chrono_literals;
  EXPECT_EQ(parse_duration("5"), 5s);
  EXPECT_EQ(parse_duration("0.5"), 500ms);
  EXPECT_EQ(parse_duration("500ms"), 500ms);
  EXPECT_EQ(parse_duration("2m"), 2min);
  for (const char* text : {"", "s", "-1", "5h", "nan", "inf", "1e99", "5 s"}) {
    EXPECT_THROW((void)parse_duration(text), ConfigError) << text;
  }
}

}  // namespace
}  // namespace strata::nvme_bench::point_test
