#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "aio/disk_mount.h"
#include "strata/aio/disk.h"

namespace strata::aio {

/// The files to read: the system's own, or a tree that looks like them.
struct SystemView {
  std::filesystem::path root = "/";  ///< holds proc, sys and dev
  /// Called where sysfs does not know a PCI device's node.
  std::function<std::optional<int>(const std::string&)> node_of_pci;
};

/// Fills in what the system tells of the device behind a file on `device` at the canonical `path`.
/// A value that cannot be read stays as it is.
void describe_device(const SystemView& system, DeviceNumber device,
                     const std::filesystem::path& path, DiskDescription& description);

}  // namespace strata::aio
