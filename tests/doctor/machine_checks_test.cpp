#include "machine_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>

#include "aio/disk_tree.h"
#include "doctor/expect_finding.h"

namespace strata::tool::machine_checks_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// A machine without a fault, in which each test breaks one thing.
class MachineChecks : public testing::Test {
 protected:
  MachineChecks() {
    write("proc/sys/kernel/osrelease", "6.1.0-18-amd64");
    write("proc/sys/kernel/io_uring_disabled", "0");
    write("proc/self/status", "Name:\tstrata\nSeccomp:\t0\nCapEff:\t0000000000000000");
    limit_locked_memory("unlimited            unlimited            bytes");
    write("proc/sys/fs/aio-max-nr", "65536");
    write("proc/sys/fs/aio-nr", "1024");
    write("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never");
    write_memory("MemAvailable: 50331648 kB", "SwapTotal: 0 kB\nSwapFree: 0 kB");
  }

  void write(const std::string& path, const std::string& text) { tree_.write(path, text); }
  void limit_locked_memory(const std::string& values) {
    write("proc/self/limits",
          "Limit                     Soft Limit           Hard Limit           Units\n"
          "Max locked memory         " +
              values);
  }
  void write_memory(const std::string& available, const std::string& others) {
    write("proc/meminfo", "MemTotal: 67108864 kB\n" + available + "\n" + others);
  }
  void limit_memory(const std::string& bytes, const std::string& used) {
    write("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw");
    write("proc/self/cgroup", "0::/job");
    write("sys/fs/cgroup/job/memory.max", bytes);
    write("sys/fs/cgroup/job/memory.current", used);
  }
  void add_gpu(const std::string& address) {
    write("sys/bus/pci/devices/" + address + "/class", "0x030200");
    write("sys/bus/pci/devices/" + address + "/vendor", "0x10de");
    write("sys/bus/pci/devices/" + address + "/numa_node", "-1");
  }
  [[nodiscard]] const std::filesystem::path& root() const { return tree_.root(); }

  aio::DiskTree tree_;
};

TEST_F(MachineChecks, FindNothingOnAMachineThatIsFine) {
  expect(check_kernel(root()), Severity::kOk, "Linux 6.1.0-18-amd64", "");
  expect(check_io_uring(root(), {}), Severity::kOk, "ring", "");
  expect(check_locked_memory(root()), Severity::kOk, "no limit", "");
  expect(check_aio(root()), Severity::kOk, "1024 of fs.aio-max-nr 65536", "");
  expect(check_huge_pages(root()), Severity::kOk, "madvise", "");
  expect(check_reserved_pages(root()), Severity::kOk, "none", "");
  expect(check_memory(root()), Severity::kOk, "48.0 GiB available of 64.0 GiB", "");
  expect(check_swap(root()), Severity::kOk, "none", "");
  expect(check_gpu(root()), Severity::kOk, "none", "");
  expect(check_libtorch({.libtorch = "2.11.0"}), Severity::kOk, "2.11.0", "");
  expect(check_ranks({.gloo = true}), Severity::kOk, "Gloo", "");
}

TEST_F(MachineChecks, HoldNothingAgainstAMachineThatTellsNothing) {
  const std::filesystem::path nowhere = root() / "nowhere";
  EXPECT_EQ(check_kernel(nowhere).severity, Severity::kOk);
  EXPECT_EQ(check_reserved_pages(nowhere).severity, Severity::kOk);
  EXPECT_EQ(check_memory(nowhere).severity, Severity::kOk);
  EXPECT_EQ(check_swap(nowhere).severity, Severity::kOk);
  EXPECT_EQ(check_gpu(nowhere).severity, Severity::kOk);
}

TEST_F(MachineChecks, NoteAnOldKernel) {
  write("proc/sys/kernel/osrelease", "5.15.0-91-generic");
  expect(check_kernel(root()), Severity::kNote, "before 6.1", "kernel");
  write("proc/sys/kernel/osrelease", "5.4.0");
  expect(check_kernel(root()), Severity::kNote, "before 5.11", "kernel");
  write("proc/sys/kernel/osrelease", "5.11.0");
  EXPECT_THAT(check_kernel(root()).found, Not(HasSubstr("before 5.11")));
  write("proc/sys/kernel/osrelease", "10.0.1");
  expect(check_kernel(root()), Severity::kOk, "10.0.1", "");
}

TEST_F(MachineChecks, SayWhatKeepsIoUringAway) {
  write("proc/sys/kernel/io_uring_disabled", "2");
  expect(check_io_uring(root(), {.refusal = EPERM}), Severity::kNote,
         "EPERM: kernel.io_uring_disabled is 2", "sysctl -w kernel.io_uring_disabled=0");
  write("proc/sys/kernel/io_uring_disabled", "0");
  expect(check_io_uring(root(), {.refusal = EPERM}), Severity::kNote, "security module", "seccomp");
  write("proc/self/status", "Seccomp:\t2");
  expect(check_io_uring(root(), {.refusal = EPERM}), Severity::kNote, "sandbox (seccomp)",
         "--security-opt seccomp=");
  expect(check_io_uring(root(), {.refusal = ENOSYS}), Severity::kNote, "sandbox (seccomp)",
         "--security-opt seccomp=");
  expect(check_io_uring(root(), {.refusal = ENOMEM}), Severity::kNote, "locked memory",
         "ulimit -l");
  expect(check_io_uring(root(), {.refusal = EMFILE}), Severity::kNote, "EMFILE", "dmesg");
  write("proc/sys/kernel/osrelease", "4.19.0");
  expect(check_io_uring(root(), {.refusal = ENOSYS}), Severity::kNote, "this kernel",
         "newer kernel");
  expect(check_io_uring(root(), {.missing = {"IORING_OP_READ", "IORING_OP_WRITE"}}),
         Severity::kNote, "IORING_OP_READ, IORING_OP_WRITE", "newer kernel");
}

TEST_F(MachineChecks, NoteALimitOfLockedMemoryUnlessTheProcessIsExempt) {
  limit_locked_memory("8388608              8388608              bytes");
  expect(check_locked_memory(root()), Severity::kNote, "8.00 MiB", "limits.d");
  limit_locked_memory("8388608              unlimited            bytes");
  expect(check_locked_memory(root()), Severity::kNote, "8.00 MiB", "ulimit -l unlimited");
  write("proc/self/status", "CapEff:\t0000000000004000");
  expect(check_locked_memory(root()), Severity::kOk, "CAP_IPC_LOCK", "");
}

TEST_F(MachineChecks, NoteThatLibaioHasNoRoom) {
  write("proc/sys/fs/aio-nr", "65000");
  expect(check_aio(root()), Severity::kNote, "65000 of fs.aio-max-nr 65536",
         "sysctl -w fs.aio-max-nr=");
  std::filesystem::remove(root() / "proc/sys/fs/aio-nr");
  expect(check_aio(root()), Severity::kNote, "CONFIG_AIO", "kernel");
}

TEST_F(MachineChecks, NoteHugePagesThatAreOffOrReserved) {
  write("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]");
  expect(check_huge_pages(root()), Severity::kNote, "never", "echo madvise | sudo tee");
  std::filesystem::remove(root() / "sys/kernel/mm/transparent_hugepage/enabled");
  expect(check_huge_pages(root()), Severity::kNote, "no transparent",
         "CONFIG_TRANSPARENT_HUGEPAGE");
  write_memory("MemAvailable: 50331648 kB", "HugePages_Total:    512\nHugepagesize:    2048 kB");
  expect(check_reserved_pages(root()), Severity::kNote, "512 huge pages, 1.00 GiB",
         "sysctl -w vm.nr_hugepages=0");
}

TEST_F(MachineChecks, NoteThatACgroupBoundsTheMemory) {
  limit_memory("8589934592", "1073741824");
  expect(
      check_memory(root()), Severity::kNote,
      "7.00 GiB available of 8.00 GiB, which the memory cgroup /job allows of the machine's 64.0 "
      "GiB",
      "docker run --memory=");
  limit_memory("max", "1073741824");
  expect(check_memory(root()), Severity::kOk, "48.0 GiB", "");
}

TEST_F(MachineChecks, CallTooLittleMemoryAProblem) {
  write_memory("MemAvailable: 500000 kB", "");
  expect(check_memory(root()), Severity::kProblem, "less than any run needs", "ps aux");
  limit_memory("536870912", "0");
  expect(check_memory(root()), Severity::kProblem, "cgroup /job", "docker run --memory=");
}

TEST_F(MachineChecks, NoteSwapThatIsInUse) {
  write_memory("MemAvailable: 50331648 kB", "SwapTotal: 4194304 kB\nSwapFree: 4000000 kB");
  expect(check_swap(root()), Severity::kOk, "of 4.00 GiB", "");
  write_memory("MemAvailable: 50331648 kB", "SwapTotal: 4194304 kB\nSwapFree: 1048576 kB");
  expect(check_swap(root()), Severity::kNote, "3.00 GiB used of 4.00 GiB", "swapoff");
}

TEST_F(MachineChecks, TellOfAGpuThatIsNotUsed) {
  add_gpu("0000:41:00.0");
  expect(check_gpu(root()), Severity::kNote, "1 NVIDIA GPU (0000:41:00.0), without a driver",
         "none");
  write("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15");
  expect(check_gpu(root()), Severity::kNote, "with a driver; this build has no CUDA", "none");
  write("sys/bus/pci/devices/0000:41:00.0/vendor", "0x1234");
  EXPECT_THAT(find_gpus(root()), IsEmpty());
}

TEST_F(MachineChecks, NoteABuildWithoutGloo) {
  expect(check_ranks({.gloo = false}), Severity::kNote, "one process only", "libgloo-dev");
}

}  // namespace
}  // namespace strata::tool::machine_checks_test
