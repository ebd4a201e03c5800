#include "strata/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

namespace strata {
namespace {

using testing::HasSubstr;

TEST(ErrnoName, NamesErrorsAsTheManualPagesDo) {
  EXPECT_EQ(errno_name(ENOSPC), "ENOSPC");
  EXPECT_EQ(errno_name(EPERM), "EPERM");
  EXPECT_EQ(errno_name(EDQUOT), "EDQUOT");
}

TEST(ErrnoName, NumbersAnErrorThatHasNoName) { EXPECT_EQ(errno_name(54321), "errno 54321"); }

TEST(SystemError, SaysWhatWhereWhyAndWhatToDo) {
  const IoError error = system_error("open", "/data/x", ENOENT, "create it first");
  EXPECT_STREQ(error.what(), "open /data/x: No such file or directory (ENOENT); create it first");
  EXPECT_EQ(error.code(), ENOENT);
}

TEST(SystemError, LeavesOutAnEmptyHint) {
  EXPECT_STREQ(system_error("open", "/data/x", EIO).what(),
               "open /data/x: Input/output error (EIO)");
}

TEST(Check, ThrowsWithConditionPlaceAndValues) {
  const int used = 7;
  try {
    STRATA_CHECK(used < 5, "used=" + std::to_string(used));
    FAIL() << "the check let a violation pass";
  } catch (const std::logic_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("used < 5"));
    EXPECT_THAT(error.what(), HasSubstr("error_test.cpp:"));
    EXPECT_THAT(error.what(), HasSubstr("used=7"));
  }
}

TEST(Check, DoesNotComputeTheValuesOfAnInvariantThatHolds) {
  int computed = 0;
  STRATA_CHECK(true, (++computed, std::string()));
  EXPECT_EQ(computed, 0);
}

TEST(Errors, AreAllCaughtAsStrataError) {
  EXPECT_THROW(throw ConfigError("x"), Error);
  EXPECT_THROW(throw CorruptData("x"), Error);
  EXPECT_THROW(throw DeadlineExceeded("x", ETIME), IoError);
}

}  // namespace
}  // namespace strata
