#include "machine_checks.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <utility>

#include "plural.h"
#include "strata/base/error.h"
#include "strata/base/machine_memory.h"
#include "strata/base/units.h"
#include "system_files.h"

namespace strata::tool {
namespace {

namespace fs = std::filesystem;

constexpr std::pair<int, int> kFirstWithIoUring{5, 11};
constexpr std::pair<int, int> kFirstWithAll{6, 1};  // DEFER_TASKRUN, STATX_DIOALIGN

/// A queue takes its depth of it, 32 unless the config says otherwise; other programs take theirs.
constexpr std::int64_t kAioRoomWanted = 4096;

/// Less is no room for LibTorch's libraries and the smallest model's tiers.
constexpr std::uint64_t kMemoryLeast = 1_GiB;

constexpr unsigned kCapIpcLock = 14;  // capabilities(7)

/// "6.1.0-18-amd64" is {6, 1}; {0, 0} when it is not told.
std::pair<int, int> kernel_version(const fs::path& root) {
  const std::string release = system_text(root / "proc/sys/kernel/osrelease");
  const std::size_t dot = release.find('.');
  if (dot == std::string::npos) return {};
  const auto first = leading_number(release);
  const auto second = leading_number(std::string_view(release).substr(dot + 1));
  if (!first || !second) return {};
  return {static_cast<int>(*first), static_cast<int>(*second)};
}

/// Whether system calls of this process pass a filter, as in a container.
bool is_sandboxed(const fs::path& root) {
  return system_value(root / "proc/self/status", "Seccomp:") == "2";
}

/// An effective capability of this process.
bool has_capability(const fs::path& root, unsigned capability) {
  const std::string text = system_value(root / "proc/self/status", "CapEff:");
  std::uint64_t mask = 0;
  (void)std::from_chars(text.data(), text.data() + text.size(), mask, 16);
  return (mask >> capability & 1) != 0;
}

constexpr const char* kAllowIoUring =
    "docker run --security-opt seccomp=unconfined ..., or a profile that allows io_uring_setup, "
    "io_uring_enter and io_uring_register";
constexpr const char* kNewerKernel =
    "boot a newer kernel: sudo apt-get install linux-image-amd64 (Debian), linux-generic (Ubuntu)";
constexpr const char* kStandIn = "; libaio, or threads, take its place, with the same results";

Finding io_uring_refused(const fs::path& root, int code) {
  Finding finding{"io_uring", Severity::kNote, errno_name(code), {}};
  const std::string disabled = system_text(root / "proc/sys/kernel/io_uring_disabled");
  if (code == EPERM && !disabled.empty() && disabled != "0") {
    finding.found += ": kernel.io_uring_disabled is " + disabled;
    finding.cure = "sudo sysctl -w kernel.io_uring_disabled=0";
  } else if (code == ENOMEM) {
    finding.found += ": a ring counts as locked memory in this kernel, and there is no room";
    finding.cure = "ulimit -l unlimited";
  } else if (code == ENOSYS && kernel_version(root) < kFirstWithIoUring) {
    finding.found += ": this kernel does not have it";
    finding.cure = kNewerKernel;
  } else if (code == EPERM || code == ENOSYS || code == EACCES) {
    finding.found += is_sandboxed(root) ? ": a sandbox (seccomp) forbids it"
                                        : ": a sandbox or security module forbids it";
    finding.cure = kAllowIoUring;
  } else {
    finding.found += ": no ring could be made";
    finding.cure = "sudo dmesg | tail";
  }
  finding.found += kStandIn;
  return finding;
}

/// "MemTotal:  16384 kB" in bytes.
std::optional<std::uint64_t> memory_value(const fs::path& root, std::string_view key) {
  const auto kib = leading_number(system_value(root / "proc/meminfo", key));
  if (!kib || *kib < 0) return std::nullopt;
  return static_cast<std::uint64_t>(*kib) * 1024;
}

/// The soft and the hard limit of "Max locked memory  8388608  8388608  bytes", nullopt for
/// unlimited.
struct LockedMemoryLimits {
  std::optional<std::int64_t> soft, hard;
};
LockedMemoryLimits locked_memory_limits(const fs::path& root) {
  const std::string values = system_value(root / "proc/self/limits", "Max locked memory");
  LockedMemoryLimits limits{leading_number(values), {}};
  const std::size_t blank = values.find(' ');
  if (blank == std::string::npos) return limits;
  const std::size_t second = values.find_first_not_of(' ', blank);
  if (second != std::string::npos) {
    limits.hard = leading_number(std::string_view(values).substr(second));
  }
  return limits;
}

}  // namespace

Finding check_kernel(const fs::path& root) {
  const std::string release = system_text(root / "proc/sys/kernel/osrelease");
  const auto version = kernel_version(root);
  Finding finding{"kernel", Severity::kOk, "Linux " + release};
  if (version == std::pair{0, 0}) return {"kernel", Severity::kOk, "it does not tell its version"};
  if (version >= kFirstWithAll) return finding;
  finding.severity = Severity::kNote;
  finding.found +=
      version < kFirstWithIoUring
          ? ": before 5.11, which io_uring is used from"
          : ": before 6.1, whose io_uring completes with fewer interruptions of the compute";
  finding.cure = kNewerKernel;
  return finding;
}

Finding check_io_uring(const fs::path& root, const aio::IoUringSupport& support) {
  if (support.refusal != 0) return io_uring_refused(root, support.refusal);
  if (support.missing.empty()) {
    return {"io_uring", Severity::kOk, "a ring could be made, and has all requests that are used"};
  }
  std::string names;
  for (const std::string& name : support.missing) names += (names.empty() ? "" : ", ") + name;
  return {"io_uring", Severity::kNote, "without " + names + kStandIn, kNewerKernel};
}

Finding check_locked_memory(const fs::path& root) {
  const auto [soft, hard] = locked_memory_limits(root);
  if (has_capability(root, kCapIpcLock)) {
    return {"locked memory", Severity::kOk, "no limit (CAP_IPC_LOCK)"};
  }
  if (!soft) return {"locked memory", Severity::kOk, "no limit"};
  return {"locked memory", Severity::kNote,
          "at most " + format_bytes(static_cast<std::uint64_t>(*soft)) +
              ": memory beyond it is not registered with io_uring, and pinned for every transfer",
          hard ? "echo '* - memlock unlimited' | sudo tee /etc/security/limits.d/90-memlock.conf, "
                 "and log in again; docker run --ulimit memlock=-1; LimitMEMLOCK=infinity in a "
                 "systemd unit"
               : "ulimit -l unlimited"};
}

Finding check_aio(const fs::path& root) {
  const auto most = system_number(root / "proc/sys/fs/aio-max-nr");
  const auto taken = system_number(root / "proc/sys/fs/aio-nr");
  if (!most || !taken) {
    return {"libaio", Severity::kNote,
            "this kernel has no asynchronous I/O (CONFIG_AIO); it is only used where io_uring is "
            "not there",
            kNewerKernel};
  }
  const std::string found =
      "fs.aio-nr is " + std::to_string(*taken) + " of fs.aio-max-nr " + std::to_string(*most);
  if (*most - *taken >= kAioRoomWanted) return {"libaio", Severity::kOk, found};
  return {"libaio", Severity::kNote, found + ": little room for more queues",
          "sudo sysctl -w fs.aio-max-nr=1048576"};
}

Finding check_huge_pages(const fs::path& root) {
  const std::string enabled = system_text(root / "sys/kernel/mm/transparent_hugepage/enabled");
  Finding finding{"huge pages", Severity::kOk, {}};
  if (enabled.find("[always]") != std::string::npos) {
    finding.found = "transparent ones for all memory (always)";
  } else if (enabled.find("[madvise]") != std::string::npos) {
    finding.found = "transparent ones where they are asked for (madvise)";
  } else {
    finding = {"huge pages", Severity::kNote,
               enabled.empty() ? "this kernel has no transparent ones"
                               : "transparent ones are switched off (never): arenas and tensors "
                                 "are made of small pages",
               enabled.empty()
                   ? "boot a kernel with CONFIG_TRANSPARENT_HUGEPAGE"
                   : "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"};
  }
  return finding;
}

Finding check_reserved_pages(const fs::path& root) {
  const std::int64_t pages =
      leading_number(system_value(root / "proc/meminfo", "HugePages_Total:")).value_or(0);
  const std::uint64_t bytes = static_cast<std::uint64_t>(std::max<std::int64_t>(pages, 0)) *
                              memory_value(root, "Hugepagesize:").value_or(0);
  if (bytes == 0) return {"reserved pages", Severity::kOk, "none"};
  return {"reserved pages", Severity::kNote,
          counted(pages, "huge page") + ", " + format_bytes(bytes) +
              " that only programs have that ask for them, and Strata does not",
          "sudo sysctl -w vm.nr_hugepages=0"};
}

Finding check_memory(const fs::path& root) {
  const MachineMemory most = machine_memory(root);
  const MachineMemory available = available_memory(root);
  const auto installed = memory_value(root, "MemTotal:");
  Finding finding{"memory", Severity::kOk, {}};
  if (!installed) {
    finding.found = "the machine does not tell how much it has";
    return finding;
  }
  finding.found = format_bytes(available.bytes) + " available of " + format_bytes(most.bytes);
  if (most.bytes < *installed) {
    finding.severity = Severity::kNote;
    finding.found += ", which " + most.bound + " allows of the machine's " +
                     format_bytes(*installed) + "; a plan keeps to it";
    finding.cure =
        "start it with a larger limit: docker run --memory=SIZE, srun --mem=SIZE, "
        "systemd-run --scope -p MemoryMax=SIZE";
  }
  if (available.bytes < kMemoryLeast) {
    finding.severity = Severity::kProblem;
    finding.found += ": less than any run needs";
    if (available.bound == most.bound && finding.cure.empty()) {
      finding.cure = "end what holds it: ps aux --sort=-rss | head";
    }
  }
  return finding;
}

Finding check_swap(const fs::path& root) {
  const std::uint64_t total = memory_value(root, "SwapTotal:").value_or(0);
  const std::uint64_t free = memory_value(root, "SwapFree:").value_or(0);
  if (total == 0) return {"swap", Severity::kOk, "none"};
  const std::uint64_t used = total - std::min(free, total);
  Finding finding{"swap", Severity::kOk, format_bytes(used) + " used of " + format_bytes(total)};
  // Pages of programs that sleep leave a few; more means that memory was short.
  if (used > total / 4) {
    finding.severity = Severity::kNote;
    finding.found += ": memory was short, and what was moved out comes back slowly";
    finding.cure = "end what is not needed, then: sudo swapoff -a && sudo swapon -a";
  }
  return finding;
}

std::vector<Gpu> find_gpus(const fs::path& root) {
  std::vector<Gpu> gpus;
  for (const fs::path& device : system_entries(root / "sys/bus/pci/devices")) {
    if (!system_text(device / "class").starts_with("0x03")) continue;  // display controllers
    if (system_text(device / "vendor") != "0x10de") continue;
    const auto node = system_number(device / "numa_node");
    gpus.push_back({device.filename(),
                    node && *node >= 0 ? std::optional(static_cast<int>(*node)) : std::nullopt});
  }
  return gpus;
}

Finding check_gpu(const fs::path& root) {
  constexpr const char* kDevice = "the device tier is host memory";
  const std::vector<Gpu> gpus = find_gpus(root);
  const bool has_driver = !system_text(root / "proc/driver/nvidia/version").empty();
  if (gpus.empty() && !has_driver) {
    return {"gpu", Severity::kOk, "none of NVIDIA; " + std::string(kDevice)};
  }
  std::string names;
  for (const Gpu& gpu : gpus) names += (names.empty() ? "" : ", ") + gpu.pci_address;
  Finding finding{"gpu", Severity::kNote, counted(gpus.size(), "NVIDIA GPU"), {}};
  if (!names.empty()) finding.found += " (" + names + ")";
  finding.found += has_driver ? ", with a driver" : ", without a driver";
  finding.found += "; this build has no CUDA and no NCCL: " + std::string(kDevice);
  finding.cure = "none: Strata does not compute on GPUs yet";
  return finding;
}

Finding check_libtorch(const BuildFacts& build) {
  return {"libtorch", Severity::kOk,
          build.libtorch.empty() ? "built without it" : "built with " + build.libtorch};
}

Finding check_ranks(const BuildFacts& build) {
  if (build.gloo) {
    return {"ranks", Severity::kOk,
            "processes, connected by Gloo through host memory (built without NCCL)"};
  }
  return {"ranks", Severity::kNote,
          "one process only: Gloo's headers were not there when this was built",
          "sudo apt-get install libgloo-dev, and build again"};
}

}  // namespace strata::tool
