#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "strata/aio/numa.h"  // run_on_numa_node: where to work for a disk

namespace strata::aio {

/// The system's facts on the storage under a directory. An absent value was not told: a
/// directory on tmpfs, an overlay or a network has no device. A device made of others (LVM, LUKS,
/// md) has the model, address and node on which all of them agree.
struct DiskDescription {
  std::filesystem::path directory;
  std::string file_system;       ///< "ext4"
  std::string device;            ///< "nvme0n1" (a partition's disk), "" for none
  std::string model;             ///< "Samsung SSD 990 PRO 2TB"
  std::string pci_address;       ///< "0000:01:00.0"
  std::optional<int> numa_node;  ///< next to the disk's PCIe root; mostly absent with one node
  std::optional<bool> rotational;
  std::uint64_t total_bytes = 0;         ///< size of the file system
  std::uint64_t free_bytes = 0;          ///< bytes that this process may use
  std::uint32_t block_bytes = 0;         ///< logical block of the device, 0 if unknown
  std::uint64_t file_system_number = 0;  ///< the same for directories on one file system
};

/// Looks at statvfs, /proc/self/mountinfo, sysfs and hwloc. Throws IoError when `directory` cannot
/// be looked at; what lies behind it never throws.
[[nodiscard]] DiskDescription describe_disk(const std::filesystem::path& directory);

/// Counts, for each of `disks`, those on the same disk, itself included. A file system without a
/// device counts as a disk.
[[nodiscard]] std::vector<std::size_t> paths_on_the_disk_of(std::span<const DiskDescription> disks);

/// The NUMA node to work on for all of `disks` together: the one that they share, else -1.
[[nodiscard]] int numa_node_of(std::span<const DiskDescription> disks) noexcept;

}  // namespace strata::aio
