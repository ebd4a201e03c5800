#include "disk_space.h"

#include <sys/stat.h>

#include <cerrno>
#include <map>
#include <optional>
#include <string>
#include <system_error>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::tool {
namespace {

namespace fs = std::filesystem;

struct FileSystem {
  dev_t device;
  std::uint64_t free;
};

/// The file system that `path` is on, or will be.
std::optional<FileSystem> file_system_of(const fs::path& path) {
  fs::path place = fs::absolute(path).lexically_normal();
  std::error_code error;
  while (!fs::exists(place, error) && place.has_relative_path()) place = place.parent_path();
  struct stat status {};
  const fs::space_info space = fs::space(place, error);
  if (error || ::stat(place.c_str(), &status) != 0) return std::nullopt;
  return FileSystem{status.st_dev, space.available};
}

[[noreturn]] void fail(const std::string& what, const std::string& where, std::uint64_t needed,
                       std::uint64_t free, const std::string& hint) {
  throw system_error(
      "write " + format_bytes(needed) + " (" + what + ") to", where, ENOSPC,
      format_bytes(free) + " are free, " + format_bytes(needed - free) + " are missing; " + hint);
}

}  // namespace

void require_disk_space(const DiskNeed& need) {
  std::map<dev_t, std::uint64_t> free_on;  // each file system counts once
  std::uint64_t nvme_free = 0;
  std::string names;
  for (const fs::path& directory : need.nvme_directories) {
    const auto system = file_system_of(directory);
    if (!system) return;
    if (free_on.emplace(system->device, system->free).second) nvme_free += system->free;
    names += (names.empty() ? "" : ", ") + directory.string();
  }
  if (need.nvme_bytes > nvme_free && !need.nvme_directories.empty()) {
    fail("the plan's nvme tier", names, need.nvme_bytes, nvme_free,
         "free some space, or name another directory, or several, with --nvme");
  }
  if (need.output.empty()) return;
  const auto output = file_system_of(need.output);
  if (!output) return;
  const bool is_shared = free_on.contains(output->device);
  const std::uint64_t needed = need.output_bytes + (is_shared ? need.nvme_bytes : 0);
  const std::uint64_t free = is_shared ? nvme_free : output->free;
  if (needed > free) {
    fail(is_shared ? "the model, and the plan's nvme tier on the same disk" : "the model",
         need.output.string(), needed, free, "free some space or name another output directory");
  }
}

}  // namespace strata::tool
