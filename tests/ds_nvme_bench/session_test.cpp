#include "session.h"

#include <gtest/gtest.h>

#include <string>

#include "strata/base/units.h"

namespace strata::nvme_bench::session_test {
namespace {

/// Each a disk of its own.
aio::DiskDescription disk_with(std::uint64_t total, std::uint64_t free) {
  static int disks = 0;
  aio::DiskDescription disk;
  disk.device = "disk" + std::to_string(++disks);
  disk.total_bytes = total;
  disk.free_bytes = free;
  return disk;
}

TEST(DefaultBytes, AreTwoGibibytesSharedByTheDirectories) {
  EXPECT_EQ(default_bytes({disk_with(1000_GiB, 900_GiB)}), 2_GiB);
  EXPECT_EQ(default_bytes({disk_with(1000_GiB, 900_GiB), disk_with(500_GiB, 8_GiB)}), 2_GiB);
  EXPECT_EQ(default_bytes({disk_with(0, 0)}), 2_GiB) << "a file system that does not tell";
}

TEST(DefaultBytes, LeaveThreeQuartersOfWhatIsFree) {
  EXPECT_EQ(default_bytes({disk_with(10_GiB, 4_GiB)}), 1_GiB);
  EXPECT_EQ(default_bytes({disk_with(1000_GiB, 900_GiB), disk_with(10_GiB, 100_MiB)}), 50_MiB);
  EXPECT_EQ(default_bytes({disk_with(10_GiB, 0)}), 0u);
  const aio::DiskDescription one = disk_with(10_GiB, 4_GiB);
  EXPECT_EQ(default_bytes({one, one}), 1_GiB) << "both are on the same disk";
}

}  // namespace
}  // namespace strata::nvme_bench::session_test
