#include "strata/base/machine_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "support/message_of.h"
#include "support/temp_directory.h"

namespace strata {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

/// A made-up /proc and /sys.
class MachineMemoryTest : public testing::Test {
 protected:
  MachineMemoryTest() {
    write("proc/meminfo", "MemFree:  100 kB\nMemTotal:       16777216 kB\nSwapTotal: 9999999 kB\n");
  }

  void write(const std::string& name, const std::string& content) {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << content;
  }
  void mount_version_2(const std::string& seen = "/") {
    write("proc/self/mountinfo",
          "22 1 0:21 / /proc rw,nosuid - proc proc rw\n"
          "30 23 0:26 " +
              seen + " /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
  }
  void mount_version_1(const std::string& seen = "/") {
    write("proc/self/mountinfo",
          "31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
          "32 23 0:28 " +
              seen + " /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  }
  [[nodiscard]] MachineMemory memory() const { return machine_memory(root_); }

  support::TempDirectory directory_;
  const fs::path root_ = directory_.path();
};

TEST_F(MachineMemoryTest, WithoutACgroupIsTheMachines) {
  EXPECT_EQ(memory().bytes, 16_GiB);
  EXPECT_EQ(memory().bound, "this machine");
}

TEST_F(MachineMemoryTest, OfVersion2IsTheCgroupsLimit) {
  mount_version_2();
  write("proc/self/cgroup", "0::/user.slice/job\n");
  write("sys/fs/cgroup/user.slice/job/memory.max", "734003200\n");
  EXPECT_EQ(memory().bytes, 700_MiB);
  EXPECT_EQ(memory().bound, "the memory cgroup /user.slice/job");
}

TEST_F(MachineMemoryTest, TheSmallestLimitOnTheWayUpCounts) {
  mount_version_2();
  write("proc/self/cgroup", "0::/a/b/c\n");
  write("sys/fs/cgroup/a/b/c/memory.max", "max\n");
  write("sys/fs/cgroup/a/b/memory.max", "2147483648\n");
  write("sys/fs/cgroup/a/memory.max", "1073741824\n");
  EXPECT_EQ(memory().bytes, 1_GiB);
  EXPECT_EQ(memory().bound, "the memory cgroup /a");
  write("sys/fs/cgroup/a/b/memory.max", "1048576\n");
  EXPECT_EQ(memory().bytes, 1_MiB);
}

TEST_F(MachineMemoryTest, OfVersion1IsTheLimitOfTheMemoryController) {
  mount_version_1();
  write("proc/self/cgroup", "11:cpu,cpuacct:/other\n7:memory:/jobs/1\n0::/\n");
  write("sys/fs/cgroup/memory/jobs/1/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(memory().bytes, 16_GiB);  // "no limit", as version 1 writes it
  write("sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "734003200\n");
  EXPECT_EQ(memory().bytes, 700_MiB);
  EXPECT_EQ(memory().bound, "the memory cgroup /jobs");
}

TEST_F(MachineMemoryTest, AContainerThatSeesOnlyItsOwnCgroupFindsItsLimit) {
  mount_version_1("/docker/0123");
  write("proc/self/cgroup", "7:memory:/docker/0123\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
  EXPECT_EQ(memory().bytes, 1_GiB);
  write("proc/self/cgroup", "7:memory:/docker/0123/job\n");
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "734003200\n");
  EXPECT_EQ(memory().bytes, 700_MiB);
  write("proc/self/cgroup", "7:memory:/elsewhere\n");
  EXPECT_EQ(memory().bytes, 1_GiB);
}

TEST_F(MachineMemoryTest, AContainerWithANamespaceOfItsOwnFindsItsLimit) {
  mount_version_2();
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", "1073741824\n");
  EXPECT_EQ(memory().bytes, 1_GiB);
  write("proc/self/cgroup", "0::/../../outside\n");
  EXPECT_EQ(memory().bytes, 1_GiB);
}

TEST_F(MachineMemoryTest, WhatCannotBeReadBoundsNothing) {
  mount_version_2();
  write("proc/self/cgroup", "garbage\n0::/gone\n");
  EXPECT_EQ(memory().bytes, 16_GiB);
  EXPECT_EQ(machine_memory(root_ / "none").bytes, UINT64_MAX);
}

TEST_F(MachineMemoryTest, APlanBeyondItIsRefusedWithBothNumbersAndWhatToDo) {
  const MachineMemory small{700_MiB, "the memory cgroup /job"};
  EXPECT_NO_THROW(require_machine_memory(700_MiB, small));
  EXPECT_THAT(support::message_of<BudgetError>([&] { require_machine_memory(1_GiB, small); }),
              AllOf(HasSubstr("1.00 GiB"), HasSubstr("700 MiB"),
                    HasSubstr("the memory cgroup /job"), HasSubstr("--budget"), HasSubstr("nvme")));
}

TEST(MachineMemoryOfThisMachine, IsSomeAndNotAll) {
  EXPECT_GT(machine_memory().bytes, 1_MiB);
  EXPECT_NO_THROW(require_machine_memory(1));
  EXPECT_THROW(require_machine_memory(std::uint64_t{1} << 60), BudgetError);
}

}  // namespace
}  // namespace strata
