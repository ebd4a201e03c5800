#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "finding.h"
#include "strata/aio/io_uring_support.h"

/// \file
/// What `strata doctor` finds of a machine. Every check reads files below `root`, which is "/" or a
/// tree that looks like it; what cannot be read is no finding against the machine. None throws.

namespace strata::tool {

/// Versions that the I/O engines and direct I/O ask for.
[[nodiscard]] Finding check_kernel(const std::filesystem::path& root);

/// Whether io_uring can be had, and if not, what keeps it away: the kernel's switch
/// (kernel.io_uring_disabled), a sandbox (seccomp), the kernel's age, or memory that may be locked.
[[nodiscard]] Finding check_io_uring(const std::filesystem::path& root,
                                     const aio::IoUringSupport& support);

/// RLIMIT_MEMLOCK: memory that is registered with io_uring counts against it, unless the process
/// has CAP_IPC_LOCK.
[[nodiscard]] Finding check_locked_memory(const std::filesystem::path& root);

/// Room for libaio's contexts: fs.aio-nr of fs.aio-max-nr.
[[nodiscard]] Finding check_aio(const std::filesystem::path& root);

/// Huge pages that the kernel makes where a program asks (madvise), as the arenas do.
[[nodiscard]] Finding check_huge_pages(const std::filesystem::path& root);

/// Huge pages that are reserved (vm.nr_hugepages), and so kept from all who do not ask for them.
[[nodiscard]] Finding check_reserved_pages(const std::filesystem::path& root);

/// The memory that this process may have, by the machine and its cgroups.
[[nodiscard]] Finding check_memory(const std::filesystem::path& root);

[[nodiscard]] Finding check_swap(const std::filesystem::path& root);

/// A display or compute device of NVIDIA on the PCI bus.
struct Gpu {
  std::string pci_address;
  std::optional<int> numa_node;
};
[[nodiscard]] std::vector<Gpu> find_gpus(const std::filesystem::path& root);

/// Accelerators and their driver, beside what this build computes on.
[[nodiscard]] Finding check_gpu(const std::filesystem::path& root);

/// What a program was built with.
struct BuildFacts {
  std::string libtorch = {};  ///< its version; "" for none
  bool gloo = false;          ///< ranks may be processes
};
[[nodiscard]] Finding check_libtorch(const BuildFacts& build);
/// What connects the ranks of a run.
[[nodiscard]] Finding check_ranks(const BuildFacts& build);

}  // namespace strata::tool
