#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace strata::aio {

/// What the system tells of the storage under a directory. An absent value was not told: a
/// directory on tmpfs, an overlay or a network has no device.
struct DiskDescription {
  std::filesystem::path directory;
  std::string file_system;       ///< "ext4"
  std::string device;            ///< "nvme0n1" (of a partition: its disk), "" for none
  std::string model;             ///< "Samsung SSD 990 PRO 2TB"
  std::string pci_address;       ///< "0000:01:00.0"
  std::optional<int> numa_node;  ///< next to the disk's PCIe root; absent on one-node machines
  std::optional<bool> rotational;
  std::uint64_t total_bytes = 0;  ///< of the file system
  std::uint64_t free_bytes = 0;   ///< that this process may use
  std::uint32_t block_bytes = 0;  ///< logical block of the device, 0 if unknown
};

/// Looks at statfs, /proc/self/mountinfo, sysfs and hwloc. Throws IoError when `directory` cannot
/// be looked at; what lies behind it never throws.
[[nodiscard]] DiskDescription describe_disk(const std::filesystem::path& directory);

/// Confines the calling thread to the cores of a NUMA node. Returns "", also for node -1 (nothing
/// to do), or why it could not be done (a container that forbids it): work goes on where it is.
std::string run_on_numa_node(int node);

}  // namespace strata::aio
