#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

/// \file
/// How much memory there is. The system kills a process that takes more without a word, so a plan
/// is compared with it before anything is taken.

namespace strata {

/// The memory that this process may hold at most, and what says so.
struct MachineMemory {
  std::uint64_t bytes;
  std::string bound;  ///< "this machine", or "the memory cgroup /user.slice/job"
};

/// The smallest of: the machine's memory (/proc/meminfo, without swap), and the limits of the
/// memory cgroup of this process and of all above it, of version 2 (memory.max) and 1
/// (memory.limit_in_bytes). What cannot be read bounds nothing; where nothing can, `bytes` is
/// 2^64 - 1. `root` is where /proc and /sys are looked for; cgroups may be mounted anywhere.
[[nodiscard]] MachineMemory machine_memory(const std::filesystem::path& root = "/");

/// The memory that is left for this process to take, as `machine_memory` looks for it: what the
/// machine has available (MemAvailable), and of each cgroup with a limit what is not used; files'
/// caches, which the kernel gives back, are not use.
[[nodiscard]] MachineMemory available_memory(const std::filesystem::path& root = "/");

/// The host memory that a plan may take where no budget is named for it.
struct HostMemoryBound {
  std::uint64_t available;
  std::uint64_t reserve;  ///< of that for LibTorch's own memory: libraries, activations, gradients
  std::string source;     ///< the `bound` of what is available

  [[nodiscard]] std::uint64_t bytes() const noexcept { return available - reserve; }
  /// The part of each of `count` engines that share it.
  [[nodiscard]] HostMemoryBound part_of(std::uint64_t count) const;
};

/// The bound that follows from what is available. The reserve is a tenth of it, and at least 1 GiB,
/// but never more than half.
[[nodiscard]] HostMemoryBound host_memory_bound(
    const MachineMemory& available = available_memory());

/// Text such as "21.3 GiB (22.4 GiB available of this machine, less 1.10 GiB for LibTorch's own
/// memory)".
[[nodiscard]] std::string describe(const HostMemoryBound& bound);

/// Throws BudgetError, naming both numbers and what to do, when `bytes`, a plan's host memory, are
/// more than `memory`.
void require_machine_memory(std::uint64_t bytes, const MachineMemory& memory = machine_memory());

}  // namespace strata
