#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace strata::tool {

/// The bytes that a run will write.
struct DiskNeed {
  std::uint64_t nvme_bytes = 0;  ///< bytes of the plan
  /// Directories of the tier; bytes that one has no room for go to the others.
  std::vector<std::filesystem::path> nvme_directories = {};
  std::uint64_t output_bytes = 0;     ///< bytes of the model
  std::filesystem::path output = {};  ///< empty: none is written
};

/// Throws IoError (ENOSPC), naming the bytes needed, free and missing, unless the disks have room
/// for all of it at the same time. Call it before anything is written. Directories need not be
/// there yet. A file system that does not tell its free bytes is passed over.
void require_disk_space(const DiskNeed& need);

}  // namespace strata::tool
