#include "strata/aio/disk.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "aio/disk_device.h"
#include "aio/topology.h"
#include "strata/base/error.h"

namespace strata::aio {

DiskDescription describe_disk(const std::filesystem::path& directory) {
  constexpr const char* kHint = "name an existing directory that this user may enter";
  struct stat status {};
  if (::stat(directory.c_str(), &status) != 0) {
    throw system_error("look at", directory.string(), errno, kHint);
  }
  struct statvfs space {};
  if (::statvfs(directory.c_str(), &space) != 0) {
    throw system_error("ask for the free space of", directory.string(), errno, kHint);
  }
  std::error_code error;
  std::filesystem::path canonical = std::filesystem::canonical(directory, error);
  if (error) throw system_error("resolve", directory.string(), error.value(), kHint);

  const std::uint64_t free_blocks = ::geteuid() == 0 ? space.f_bfree : space.f_bavail;
  DiskDescription description;
  description.directory = directory;
  description.file_system_number = status.st_dev;
  description.total_bytes = space.f_blocks * space.f_frsize;
  description.free_bytes = free_blocks * space.f_frsize;
  describe_device({.node_of_pci = numa_node_of_pci}, {major(status.st_dev), minor(status.st_dev)},
                  canonical, description);
  return description;
}

std::vector<std::size_t> paths_on_the_disk_of(std::span<const DiskDescription> disks) {
  std::vector<std::size_t> counts;
  for (const DiskDescription& disk : disks) {
    counts.push_back(
        static_cast<std::size_t>(std::ranges::count_if(disks, [&](const DiskDescription& other) {
          return disk.device.empty() ? disk.file_system_number == other.file_system_number
                                     : disk.device == other.device;
        })));
  }
  return counts;
}

int numa_node_of(std::span<const DiskDescription> disks) noexcept {
  if (disks.empty() || !disks.front().numa_node) return -1;
  const bool shared = std::ranges::all_of(disks, [&](const DiskDescription& disk) {
    return disk.numa_node == disks.front().numa_node;
  });
  return shared ? *disks.front().numa_node : -1;
}

}  // namespace strata::aio
