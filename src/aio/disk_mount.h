#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace strata::aio {

/// The kernel's number of a device: "259:2". Major 0: a file system without a device of its own
/// (tmpfs, overlay, network), or one that hides it (btrfs).
struct DeviceNumber {
  unsigned major = 0;
  unsigned minor = 0;
  bool operator==(const DeviceNumber&) const = default;
};

/// One line of /proc/self/mountinfo.
struct Mount {
  DeviceNumber device;
  std::filesystem::path mount_point;
  std::string file_system;  ///< "ext4"
  std::string source;       ///< "/dev/nvme0n1p2", "overlay", "server:/export"
};

/// Reads the text of mountinfo; a line that does not follow proc(5) is left out.
[[nodiscard]] std::vector<Mount> parse_mountinfo(std::string_view text);

/// The mount that a file on `device` at an absolute, canonical `path` lies on; null for none. Found
/// by device where a mount has it, else by path: a btrfs subvolume has a number of its own that no
/// mount shows.
[[nodiscard]] const Mount* find_mount(std::span<const Mount> mounts, DeviceNumber device,
                                      const std::filesystem::path& path);

}  // namespace strata::aio
