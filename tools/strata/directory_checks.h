#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "finding.h"
#include "smart.h"
#include "strata/aio/disk.h"

/// \file
/// What `strata doctor` finds of a directory that is to hold states. Looking and judging are apart:
/// `look_at` asks the system, and the checks are functions of what it answered.

namespace strata::tool {

/// The errno of what failed, and a sentence with it.
struct Refusal {
  int code = 0;
  std::string reason;
};

/// What a directory shows to someone who wants to write there.
struct DirectoryFacts {
  std::filesystem::path directory;
  std::optional<aio::DiskDescription> disk;  ///< absent: it could not be looked at
  std::optional<Refusal> refusal;            ///< why no scratch file can be made there
  bool direct = false;                       ///< files take O_DIRECT
  std::uint32_t alignment = 0;               ///< of direct transfers, bytes
  std::string engine;  ///< that moved bytes there, and why it is not the preferred one
  SmartReading smart;
};

/// Makes a scratch file in the directory, moves a block with the engine that a run would choose,
/// and asks the drive for its health. Leaves nothing behind. Never throws for what it finds.
[[nodiscard]] DirectoryFacts look_at(const std::filesystem::path& directory);

/// Everything that can be said about a directory. `root` holds the /sys that
/// tells of its device.
[[nodiscard]] std::vector<Finding> check_directory(const std::filesystem::path& root,
                                                   const DirectoryFacts& facts);

/// The parts of it.
[[nodiscard]] Finding check_writable(const DirectoryFacts& facts);
[[nodiscard]] Finding check_file_system(const DirectoryFacts& facts);
[[nodiscard]] Finding check_direct_io(const DirectoryFacts& facts);
[[nodiscard]] Finding check_engine(const DirectoryFacts& facts);
[[nodiscard]] Finding check_free_space(const DirectoryFacts& facts);
[[nodiscard]] Finding check_device(const std::filesystem::path& root, const DirectoryFacts& facts);
[[nodiscard]] Finding check_temperature(const std::filesystem::path& root,
                                        const DirectoryFacts& facts);
[[nodiscard]] Finding check_wear(const DirectoryFacts& facts);
/// How far the disk is from NVIDIA's GPUs.
[[nodiscard]] Finding check_numa(const std::filesystem::path& root, const DirectoryFacts& facts);

}  // namespace strata::tool
