#include "disk_space.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "support/message_of.h"
#include "support/temp_directory.h"

namespace strata::tool::disk_space_test {
namespace {

using support::TempDirectory;
using testing::AllOf;
using testing::HasSubstr;

std::string error_of(const DiskNeed& need) {
  const auto error = support::caught<IoError>([&] { require_disk_space(need); });
  if (!error) return support::kNothingThrown;
  EXPECT_EQ(error->code(), ENOSPC);
  return error->what();
}

class DiskSpace : public testing::Test {
 protected:
  [[nodiscard]] DiskNeed need(std::uint64_t nvme, std::uint64_t output) const {
    return {.nvme_bytes = nvme,
            .nvme_directories = {directory_ / "a", directory_ / "b"},
            .output_bytes = output,
            .output = directory_ / "deep/down/out"};
  }
  [[nodiscard]] std::uint64_t free() const {
    return std::filesystem::space(directory_ / "").available;
  }

  TempDirectory directory_;
};

TEST_F(DiskSpace, WhatFitsIsAccepted) {
  EXPECT_EQ(error_of(need(1_MiB, 1_MiB)), support::kNothingThrown);
  EXPECT_EQ(error_of({.output = directory_ / "out"}), support::kNothingThrown);
}

TEST_F(DiskSpace, APlanBeyondTheDisksNamesWhatIsMissing) {
  const std::string error = error_of(need(free() + 100_GiB, 0));
  EXPECT_THAT(error, AllOf(HasSubstr("nvme tier"), HasSubstr("/a, "), HasSubstr("are missing"),
                           HasSubstr("--nvme")));
}

TEST_F(DiskSpace, DirectoriesOfOneDiskCountItOnce) {
  EXPECT_THAT(error_of(need(free() / 2 * 3, 0)), HasSubstr("are missing"));
}

TEST_F(DiskSpace, AnOutputOnTheSameDiskNeedsRoomBesideThePlan) {
  EXPECT_THAT(error_of(need(free() / 4 * 3, free() / 2)),
              AllOf(HasSubstr("on the same disk"), HasSubstr("deep/down/out")));
  EXPECT_THAT(error_of({.output_bytes = free() + 100_GiB, .output = directory_ / "out"}),
              AllOf(HasSubstr("the model"), HasSubstr("are missing")));
}

}  // namespace
}  // namespace strata::tool::disk_space_test
