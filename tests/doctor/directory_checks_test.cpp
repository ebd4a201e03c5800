#include "directory_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>

#include "aio/disk_tree.h"
#include "doctor/expect_finding.h"
#include "strata/base/units.h"
#include "support/temp_directory.h"

namespace strata::tool::directory_checks_test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;

/// A directory without a fault on an NVMe disk, in which each test breaks one thing.
class DirectoryChecks : public testing::Test {
 protected:
  DirectoryChecks() {
    facts_.directory = "/mnt/nvme";
    facts_.disk = aio::DiskDescription{.directory = "/mnt/nvme",
                                       .file_system = "ext4",
                                       .device = "nvme0n1",
                                       .model = "Example SSD 2TB",
                                       .pci_address = "0000:01:00.0",
                                       .numa_node = 0,
                                       .rotational = false,
                                       .total_bytes = 1000_GiB,
                                       .free_bytes = 500_GiB,
                                       .block_bytes = 512,
                                       .file_system_number = 1};
    facts_.direct = true;
    facts_.alignment = 512;
    facts_.engine = "io_uring";
    facts_.smart.log = SmartLog{.temperature_celsius = 40, .percentage_used = 3};
    tree_.nvme(0, "0000:01:00.0", "Example SSD 2TB", "0");
    write(kQueue + "scheduler", "[none] mq-deadline");
    write(kQueue + "nr_requests", "1023");
    tree_.link("sys/bus/pci/devices/0000:01:00.0", "sys/devices/pci0000:00/0000:01:00.0");
    write(kSensor + "temp1_input", "40850");
    write(kSensor + "temp1_max", "81850");
    write(kSensor + "temp1_crit", "84850");
  }

  void write(const std::string& path, const std::string& text) { tree_.write(path, text); }
  void add_gpu(const std::string& node) {
    write("sys/bus/pci/devices/0000:41:00.0/class", "0x030000");
    write("sys/bus/pci/devices/0000:41:00.0/vendor", "0x10de");
    write("sys/bus/pci/devices/0000:41:00.0/numa_node", node);
  }
  [[nodiscard]] const fs::path& root() const { return tree_.root(); }

  const std::string kController = "sys/devices/pci0000:00/0000:01:00.0/nvme/nvme0/";
  const std::string kQueue = kController + "nvme0n1/queue/";
  const std::string kSensor = kController + "hwmon2/";
  aio::DiskTree tree_;
  DirectoryFacts facts_;
};

TEST_F(DirectoryChecks, FindNothingInADirectoryThatIsFine) {
  const std::vector<Finding> findings = check_directory(root(), facts_);
  EXPECT_EQ(findings.size(), 9u);
  for (const Finding& finding : findings) {
    EXPECT_EQ(name_of(finding.severity), "ok") << finding.check << ": " << finding.found;
    EXPECT_THAT(finding.cure, IsEmpty()) << finding.check;
  }
  expect(check_device(root(), facts_), Severity::kOk,
         "nvme0n1 (Example SSD 2TB), scheduler none, queue of 1023", "");
  expect(check_temperature(root(), facts_), Severity::kOk,
         "40 C, too warm from 81 C, critical from 84 C", "");
}

TEST_F(DirectoryChecks, CallADirectoryThatTakesNoFilesAProblem) {
  const auto cure = [&](int code) {
    facts_.refusal = Refusal{code, "the reason"};
    expect(check_writable(facts_), Severity::kProblem, "the reason", "");
    return check_writable(facts_).cure;
  };
  facts_.directory = "/mnt/it's";
  EXPECT_EQ(cure(ENOENT), "mkdir -p '/mnt/it'\\''s'");
  EXPECT_THAT(cure(EACCES), HasSubstr("sudo chown"));
  EXPECT_THAT(cure(EROFS), HasSubstr("remount,rw"));
  EXPECT_THAT(cure(ENOSPC), HasSubstr("du -xh"));
  EXPECT_THAT(cure(EIO), HasSubstr("another directory"));
  facts_.disk.reset();
  EXPECT_EQ(check_directory(root(), facts_).size(), 1u);
}

TEST_F(DirectoryChecks, KnowTheHabitsOfFileSystems) {
  const auto judge = [&](const std::string& type) {
    facts_.disk->file_system = type;
    return check_file_system(facts_);
  };
  expect(judge("xfs"), Severity::kOk, "xfs", "");
  expect(judge("tmpfs"), Severity::kProblem, "host memory", "on a disk");
  expect(judge("ramfs"), Severity::kProblem, "host memory", "on a disk");
  expect(judge("nfs4"), Severity::kNote, "network", "local NVMe");
  expect(judge("overlay"), Severity::kNote, "container", "--volume");
  expect(judge("btrfs"), Severity::kNote, "copies", "chattr +C");
  expect(judge("zfs"), Severity::kNote, "cache", "ext4");
  expect(judge("fuse.sshfs"), Severity::kNote, "another program", "ext4");
  expect(judge("9p"), Severity::kNote, "host", "disk of its own");
}

TEST_F(DirectoryChecks, NoteBufferedFilesAndEnginesThatStandIn) {
  facts_.direct = false;
  expect(check_direct_io(facts_), Severity::kNote, "no O_DIRECT", "ext4 or xfs");
  facts_.engine = "libaio (io_uring: EPERM, blocked by a sandbox; allow io_uring_setup to use it)";
  expect(check_engine(facts_), Severity::kNote, "EPERM", "above");
}

TEST_F(DirectoryChecks, CountTheFreeSpace) {
  facts_.disk->free_bytes = 19_GiB;
  expect(check_free_space(facts_), Severity::kNote, "19.0 GiB of 1000 GiB", "du -xh");
  facts_.disk->free_bytes = 1_GiB - 1;
  expect(check_free_space(facts_), Severity::kProblem, "of 1000 GiB", "--nvme");
}

TEST_F(DirectoryChecks, NoteWhatSlowsADeviceDown) {
  write(kQueue + "nr_requests", "16");
  expect(check_device(root(), facts_), Severity::kNote, "queue of 16",
         "sudo tee /sys/class/block/nvme0n1/queue/nr_requests");
  write(kQueue + "nr_requests", "1023");
  write(kQueue + "scheduler", "none [mq-deadline] kyber");
  expect(check_device(root(), facts_), Severity::kNote, "scheduler mq-deadline",
         "echo none | sudo tee /sys/class/block/nvme0n1/queue/scheduler");
  facts_.disk->rotational = true;
  facts_.disk->device = "sda";
  expect(check_device(root(), facts_), Severity::kNote, "rotates", "ds_nvme_bench '/mnt/nvme'");
  facts_.disk->device = "";
  expect(check_device(root(), facts_), Severity::kOk, "none", "");
}

TEST_F(DirectoryChecks, WarnOfADiskThatIsTooWarm) {
  write(kSensor + "temp1_input", "82000");
  expect(check_temperature(root(), facts_), Severity::kNote, "82 C", "heat sink");
  write(kSensor + "temp1_input", "84900");
  expect(check_temperature(root(), facts_), Severity::kProblem, "84 C", "heat sink");
}

TEST_F(DirectoryChecks, FindTheSensorWhereOlderKernelsHaveIt) {
  fs::remove_all(root() / kSensor);
  expect(check_temperature(root(), facts_), Severity::kOk, "not told", "");
  write("sys/devices/pci0000:00/0000:01:00.0/hwmon/hwmon1/temp1_input", "51000");
  expect(check_temperature(root(), facts_), Severity::kOk, "51 C", "");
}

TEST_F(DirectoryChecks, WarnOfADiskThatIsWornOut) {
  facts_.smart.log->percentage_used = 80;
  expect(check_wear(facts_), Severity::kNote, "80 % of its endurance", "nvme smart-log");
  facts_.smart.log->percentage_used = 100;
  expect(check_wear(facts_), Severity::kProblem, "100 %", "replace");
  facts_.smart.log = SmartLog{.media_errors = 1};
  expect(check_wear(facts_), Severity::kProblem, "1 MEDIA ERRORS", "replace");
  facts_.smart.log = SmartLog{.critical_warning = true};
  expect(check_wear(facts_), Severity::kProblem, "warns of itself", "replace");
  facts_.smart = {.log = std::nullopt, .why_not = "ioctl: EACCES; run it as root"};
  expect(check_wear(facts_), Severity::kNote, "as root", "sudo strata doctor '/mnt/nvme'");
  facts_.disk->device = "vda";
  expect(check_wear(facts_), Severity::kOk, "not told", "");
}

TEST_F(DirectoryChecks, NoteAGpuOnAnotherNode) {
  write("sys/devices/system/node/node0/distance", "10 21 31");
  write("sys/devices/system/node/node2/distance", "21 10 32");
  write("sys/devices/system/node/node10/distance", "31 32 10");
  add_gpu("0");
  expect(check_numa(root(), facts_), Severity::kOk, "node 0", "");
  add_gpu("10");
  expect(check_numa(root(), facts_), Severity::kNote, "GPU 0000:41:00.0 to node 10, at distance 31",
         "node 10");
  add_gpu("-1");
  expect(check_numa(root(), facts_), Severity::kOk, "node 0", "");
  facts_.disk->numa_node.reset();
  expect(check_numa(root(), facts_), Severity::kOk, "no node in particular", "");
}

TEST(LookAt, TellsWhatADirectoryOfThisMachineDoesAndLeavesNothing) {
  const support::TempDirectory here(fs::current_path());
  const DirectoryFacts facts = look_at(here.path());
  ASSERT_TRUE(facts.disk);
  EXPECT_FALSE(facts.refusal);
  EXPECT_GE(facts.alignment, 512u);
  EXPECT_FALSE(facts.engine.empty());
  EXPECT_TRUE(fs::is_empty(here.path()));
}

TEST(LookAt, TellsWhyADirectoryCannotBeUsed) {
  const support::TempDirectory here(fs::current_path());
  const DirectoryFacts missing = look_at(here / "missing");
  ASSERT_TRUE(missing.refusal);
  EXPECT_EQ(missing.refusal->code, ENOENT);
  EXPECT_THAT(missing.refusal->reason, HasSubstr("missing"));
  const DirectoryFacts file = look_at(here.write("file", "text"));
  ASSERT_TRUE(file.refusal);
  EXPECT_EQ(file.refusal->code, ENOTDIR);
  EXPECT_TRUE(file.disk);
}

}  // namespace
}  // namespace strata::tool::directory_checks_test
