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

/// Throws BudgetError, naming both numbers and what to do, when `bytes`, a plan's host memory, are
/// more than `memory`.
void require_machine_memory(std::uint64_t bytes, const MachineMemory& memory = machine_memory());

}  // namespace strata
