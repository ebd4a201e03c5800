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

TEST_F(MachineMemoryTest, AvailableIsWhatTheMachineSays) {
  EXPECT_EQ(available_memory(root_).bytes, 16_GiB);  // an old kernel
  write("proc/meminfo",
        "MemTotal:       16777216 kB\nMemFree:  100 kB\nMemAvailable:    8388608 kB\n");
  EXPECT_EQ(available_memory(root_).bytes, 8_GiB);
  EXPECT_EQ(available_memory(root_).bound, "this machine");
  EXPECT_EQ(memory().bytes, 16_GiB);
  EXPECT_EQ(available_memory(root_ / "none").bytes, UINT64_MAX);
}

TEST_F(MachineMemoryTest, AvailableInACgroupOfVersion2IsItsLimitLessItsUseWithoutFiles) {
  mount_version_2();
  write("proc/self/cgroup", "0::/a/b\n");
  write("sys/fs/cgroup/a/b/memory.max", "4294967296\n");
  EXPECT_EQ(available_memory(root_).bytes, 4_GiB);  // its use is not known
  write("sys/fs/cgroup/a/b/memory.current", "3221225472\n");
  EXPECT_EQ(available_memory(root_).bytes, 1_GiB);
  write("sys/fs/cgroup/a/b/memory.stat",
        "anon 1073741824\nfile 2147483648\nshmem 0\ninactive_file 1073741824\n"
        "active_file 536870912\n");
  EXPECT_EQ(available_memory(root_).bytes, 2_GiB + 512_MiB);
  EXPECT_EQ(available_memory(root_).bound, "the memory cgroup /a/b");
  EXPECT_EQ(memory().bytes, 4_GiB);
  // A group above has a larger limit and less left.
  write("sys/fs/cgroup/a/memory.max", "8589934592\n");
  write("sys/fs/cgroup/a/memory.current", "7516192768\n");
  EXPECT_EQ(available_memory(root_).bytes, 1_GiB);
  EXPECT_EQ(available_memory(root_).bound, "the memory cgroup /a");
  // Use beyond a limit that was lowered.
  write("sys/fs/cgroup/a/memory.max", "1048576\n");
  EXPECT_EQ(available_memory(root_).bytes, 0);
}

TEST_F(MachineMemoryTest, AvailableInACgroupOfVersion1CountsTheGroupsBelow) {
  mount_version_1();
  write("proc/self/cgroup", "7:memory:/job\n");
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "2147483648\n");
  write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "1610612736\n");
  write("sys/fs/cgroup/memory/job/memory.stat",
        "inactive_file 7\nactive_file 7\ntotal_inactive_file 268435456\n"
        "total_active_file 268435456\n");
  EXPECT_EQ(available_memory(root_).bytes, 1_GiB);
  EXPECT_EQ(available_memory(root_).bound, "the memory cgroup /job");
}

TEST_F(MachineMemoryTest, ABoundLeavesATenthAndAtLeast1GiBAndAtMostHalf) {
  const auto bound_of = [](std::uint64_t bytes) {
    return host_memory_bound({bytes, "this machine"});
  };
  EXPECT_EQ(bound_of(100_GiB).bytes(), 90_GiB);
  EXPECT_EQ(bound_of(5_GiB).bytes(), 4_GiB);
  EXPECT_EQ(bound_of(1_GiB).bytes(), 512_MiB);
  EXPECT_EQ(bound_of(0).bytes(), 0);
  EXPECT_EQ(bound_of(100_GiB).part_of(4).bytes(), 22_GiB + 512_MiB);
  EXPECT_EQ(describe(bound_of(5_GiB)),
            "4.00 GiB (5.00 GiB available of this machine, less 1.00 GiB for LibTorch's own "
            "memory)");
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
  EXPECT_GT(available_memory().bytes, 1_MiB);
  EXPECT_LE(available_memory().bytes, machine_memory().bytes);
  EXPECT_NO_THROW(require_machine_memory(1));
  EXPECT_THROW(require_machine_memory(std::uint64_t{1} << 60), BudgetError);
}

}  // namespace
}  // namespace strata
