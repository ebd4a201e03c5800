#include "strata/aio/disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "aio/disk_device.h"
#include "aio/disk_tree.h"
#include "strata/base/error.h"
#include "support/message_of.h"

namespace strata::aio::disk_test {
namespace {

using support::caught;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Optional;

class DiskTest : public testing::Test {
 protected:
  DiskDescription describe(DeviceNumber device, const std::string& path = "/data") {
    DiskDescription description;
    describe_device({.root = tree_.root(), .node_of_pci = node_of_pci_}, device, path, description);
    return description;
  }

  DiskTree tree_;
  std::function<std::optional<int>(const std::string&)> node_of_pci_;
};

// ---- one disk --------------------------------------------------------------------------------

TEST_F(DiskTest, DescribesTheDiskOfAPartition) {
  tree_.nvme(0, "0000:01:00.0", "Example SSD 2TB   ", "0");
  tree_.nvme(1, "0000:81:00.0", "Other SSD", "1");
  tree_.mount("259:1", "/", "ext4", "/dev/nvme0n1p1");
  tree_.mount("259:11", "/data", "xfs", "/dev/nvme1n1p1");
  const DiskDescription near = describe({259, 1}, "/home");
  EXPECT_EQ(near.file_system, "ext4");
  EXPECT_EQ(near.device, "nvme0n1");
  EXPECT_EQ(near.model, "Example SSD 2TB");
  EXPECT_EQ(near.pci_address, "0000:01:00.0");
  EXPECT_THAT(near.numa_node, Optional(0));
  EXPECT_THAT(near.rotational, Optional(false));
  EXPECT_EQ(near.block_bytes, 512u);
  const DiskDescription far = describe({259, 11});
  EXPECT_EQ(far.file_system, "xfs");
  EXPECT_EQ(far.device, "nvme1n1");
  EXPECT_THAT(far.numa_node, Optional(1));
}

TEST_F(DiskTest, LeavesOutWhatAVirtualDiskDoesNotTell) {
  tree_.disk("pci0000:00/0000:00:02.0/virtio1/block/vda", "254:0", "1", "512");
  tree_.mount("254:0", "/", "ext4", "/dev/vda");
  const DiskDescription disk = describe({254, 0});
  EXPECT_EQ(disk.device, "vda");
  EXPECT_THAT(disk.model, IsEmpty());
  EXPECT_EQ(disk.pci_address, "0000:00:02.0");
  EXPECT_FALSE(disk.numa_node);
  EXPECT_THAT(disk.rotational, Optional(true));
}

TEST_F(DiskTest, TakesTheControllerBehindBridgesAndLongDomains) {
  tree_.disk("pci10000:e0/10000:e0:01.0/10000:e1:00.0/nvme/nvme3/nvme3n1", "259:0", "0", "512");
  EXPECT_EQ(describe({259, 0}).pci_address, "10000:e1:00.0");
}

TEST_F(DiskTest, FindsTheControllerOfADiskThatMayHaveSeveral) {
  const std::string subsystem = "virtual/nvme-subsystem/nvme-subsys0";
  tree_.disk(subsystem + "/nvme0n1", "259:0", "0", "4096");
  tree_.write("sys/devices/" + subsystem + "/model", "Server SSD");
  tree_.link("sys/devices/" + subsystem + "/nvme0n1/device", "sys/devices/" + subsystem);
  tree_.write("sys/devices/pci0000:80/0000:81:00.0/nvme/nvme0/model", "Server SSD");
  tree_.write("sys/devices/pci0000:80/0000:81:00.0/numa_node", "1");
  tree_.link("sys/devices/" + subsystem + "/nvme0",
             "sys/devices/pci0000:80/0000:81:00.0/nvme/nvme0");
  const DiskDescription disk = describe({259, 0});
  EXPECT_EQ(disk.device, "nvme0n1");
  EXPECT_EQ(disk.model, "Server SSD");
  EXPECT_EQ(disk.pci_address, "0000:81:00.0");
  EXPECT_THAT(disk.numa_node, Optional(1));
}

TEST_F(DiskTest, AsksForTheNodeThatSysfsDoesNotKnow) {
  tree_.nvme(0, "0000:01:00.0", "Example SSD", "-1");
  EXPECT_FALSE(describe({259, 0}).numa_node);
  node_of_pci_ = [](const std::string& address) {
    return address == "0000:01:00.0" ? std::optional(1) : std::nullopt;
  };
  EXPECT_THAT(describe({259, 0}).numa_node, Optional(1));
}

// ---- devices made of others ------------------------------------------------------------------

TEST_F(DiskTest, GivesADeviceMadeOfOthersWhatTheyShare) {
  tree_.nvme(0, "0000:01:00.0", "Example SSD", "1");
  tree_.nvme(1, "0000:02:00.0", "Example SSD", "1");
  tree_.made_of("dm-0", "252:0", {"nvme0n1p1", "nvme1n1"});
  const DiskDescription disk = describe({252, 0});
  EXPECT_EQ(disk.device, "dm-0");
  EXPECT_EQ(disk.model, "Example SSD");
  EXPECT_THAT(disk.pci_address, IsEmpty()) << "they have two";
  EXPECT_THAT(disk.numa_node, Optional(1));
  EXPECT_EQ(disk.block_bytes, 4096u);
}

TEST_F(DiskTest, KnowsNoNodeForADeviceOverTwoNodes) {
  tree_.nvme(0, "0000:01:00.0", "Example SSD", "0");
  tree_.nvme(1, "0000:81:00.0", "Other SSD", "1");
  tree_.made_of("md0", "9:0", {"nvme0n1", "nvme1n1"});
  const DiskDescription disk = describe({9, 0});
  EXPECT_FALSE(disk.numa_node);
  EXPECT_THAT(disk.model, IsEmpty());
}

TEST_F(DiskTest, FollowsDevicesOnDevices) {
  tree_.nvme(0, "0000:01:00.0", "Example SSD", "1");
  tree_.made_of("dm-0", "252:0", {"nvme0n1p1"});
  tree_.made_of("dm-1", "252:1", {"dm-0"});
  const DiskDescription disk = describe({252, 1});
  EXPECT_EQ(disk.pci_address, "0000:01:00.0");
  EXPECT_THAT(disk.numa_node, Optional(1));
}

TEST_F(DiskTest, ComesToAnEndWhenDevicesLieInACircle) {
  tree_.disk("virtual/block/dm-0", "252:0", "0", "512");
  tree_.made_of("dm-1", "252:1", {"dm-0"});
  tree_.link("sys/devices/virtual/block/dm-0/slaves/dm-1", "sys/devices/virtual/block/dm-1");
  EXPECT_EQ(describe({252, 1}).device, "dm-1");
}

// ---- file systems without a number -----------------------------------------------------------

TEST_F(DiskTest, FindsTheDiskOfAFileSystemWithNumbersOfItsOwn) {
  tree_.nvme(0, "0000:01:00.0", "Example SSD", "0");
  tree_.mount("0:21", "/", "btrfs", "/dev/nvme0n1p1");
  tree_.mount("0:30", "/data", "tmpfs", "tmpfs");
  const DiskDescription disk = describe({0, 77}, "/home/user");  // a subvolume's, in no mount
  EXPECT_EQ(disk.file_system, "btrfs");
  EXPECT_EQ(disk.device, "nvme0n1");
}

TEST_F(DiskTest, FollowsAMappersNameToItsDevice) {
  tree_.nvme(0, "0000:01:00.0", "Example SSD", "0");
  tree_.made_of("dm-0", "252:0", {"nvme0n1p1"});
  tree_.write("dev/dm-0", "");
  tree_.link("dev/mapper/vg-data", "dev/dm-0");
  tree_.mount("0:21", "/my\\040data", "btrfs", "/dev/mapper/vg-data");
  EXPECT_EQ(describe({0, 77}, "/my data/run").device, "dm-0");
}

TEST_F(DiskTest, KnowsNoDeviceForMemoryOverlaysAndNetworks) {
  tree_.nvme(0, "0000:01:00.0", "Example SSD", "0");
  tree_.mount("0:20", "/", "overlay", "overlay");
  tree_.mount("0:21", "/dev/shm", "tmpfs", "tmpfs");
  tree_.mount("0:22", "/net", "nfs4", "server:/nvme0n1");
  for (const auto& [minor, type] : {std::pair(20u, "overlay"), {21u, "tmpfs"}, {22u, "nfs4"}}) {
    const DiskDescription disk = describe({0, minor}, "/anywhere");
    EXPECT_EQ(disk.file_system, type);
    EXPECT_THAT(disk.device, IsEmpty());
    EXPECT_FALSE(disk.numa_node);
    EXPECT_FALSE(disk.rotational);
    EXPECT_EQ(disk.block_bytes, 0u);
  }
}

TEST_F(DiskTest, TakesTheMountThatHidesTheOthers) {
  tree_.mount("0:20", "/", "overlay", "overlay");
  tree_.mount("0:21", "/data", "tmpfs", "tmpfs");
  tree_.mount("0:22", "/data", "nfs4", "server:/export");
  tree_.mount("0:23", "/database", "fuse", "other");
  EXPECT_EQ(describe({0, 77}, "/data/run").file_system, "nfs4");
}

TEST_F(DiskTest, KnowsNothingWhereNothingCanBeRead) {
  const DiskDescription disk = describe({259, 0});
  EXPECT_THAT(disk.file_system, IsEmpty());
  EXPECT_THAT(disk.device, IsEmpty());
  tree_.write("proc/self/mountinfo", "36 35\n- - -\n1 2 x:y / / rw - a b c\n\n");
  tree_.link("sys/dev/block/259:0", "sys/devices/gone");
  EXPECT_THAT(describe({259, 0}).file_system, IsEmpty());
}

// ---- this machine ----------------------------------------------------------------------------

TEST(DescribeDisk, TellsTheSpaceOfADirectory) {
  const auto directory = std::filesystem::temp_directory_path();
  const DiskDescription disk = describe_disk(directory);
  EXPECT_EQ(disk.directory, directory);
  EXPECT_GT(disk.total_bytes, 0u);
  EXPECT_LE(disk.free_bytes, disk.total_bytes);
}

TEST(DescribeDisk, NamesADirectoryThatIsNotThere) {
  const auto error = caught<IoError>([&] { (void)describe_disk("/nowhere/at/all"); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ENOENT);
  EXPECT_THAT(error->what(), HasSubstr("/nowhere/at/all"));
}

TEST(NumaNodeOf, IsTheNodeThatAllDisksShare) {
  const auto node = [](std::initializer_list<std::optional<int>> nodes) {
    std::vector<DiskDescription> disks;
    for (const auto& one : nodes) {
      disks.emplace_back();
      disks.back().numa_node = one;
    }
    return numa_node_of(disks);
  };
  EXPECT_EQ(node({1}), 1);
  EXPECT_EQ(node({1, 1}), 1);
  EXPECT_EQ(node({0, 1}), -1);
  EXPECT_EQ(node({1, std::nullopt}), -1);
  EXPECT_EQ(node({std::nullopt, std::nullopt}), -1);
  EXPECT_EQ(node({}), -1);
}

// ---- several directories ----------------------------------------------------------------------

TEST(PathsOnADisk, AreToldByTheDeviceAndWithoutOneByTheFileSystem) {
  const auto disk = [](const std::string& device, std::uint64_t file_system) {
    DiskDescription description;
    description.device = device;
    description.file_system_number = file_system;
    return description;
  };
  const std::vector<DiskDescription> disks{disk("nvme0n1", 1), disk("nvme1n1", 2),
                                           disk("nvme0n1", 3), disk("", 4),
                                           disk("", 5),        disk("", 4)};
  EXPECT_THAT(paths_on_the_disk_of(disks), testing::ElementsAre(2, 1, 2, 2, 1, 2))
      << "two partitions are one disk, two mounts of tmpfs are not";
}

TEST(PathsOnADisk, AreOneForTheSameDirectoryTwice) {
  const DiskTree tree;
  const std::vector<DiskDescription> disks(2, describe_disk(tree.root()));
  EXPECT_THAT(paths_on_the_disk_of(disks), testing::ElementsAre(2, 2));
}

}  // namespace
}  // namespace strata::aio::disk_test
