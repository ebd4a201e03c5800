#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "report.h"
#include "strata/base/units.h"

namespace strata::nvme_bench {
namespace {

// Drives with flash of three or four bits write to tens of GB of it as one bit first.
constexpr std::uint64_t kLikelyWriteCache = 32_GiB;

constexpr const char* kHugePageSwitch = "/sys/kernel/mm/transparent_hugepage/enabled";

std::uint64_t memory_bytes() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page_bytes = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && page_bytes > 0
             ? static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page_bytes)
             : 0;
}

bool huge_pages_are_off() {
  std::ifstream file(kHugePageSwitch);
  std::string text;
  std::getline(file, text);
  return text.empty() || text.find("[never]") != std::string::npos;
}

bool is_in_memory(const std::string& file_system) {
  return file_system == "tmpfs" || file_system == "ramfs" || file_system == "devtmpfs";
}

}  // namespace

std::vector<std::string> notes_on(const Point& point, std::uint64_t bytes,
                                  const std::vector<aio::DiskDescription>& disks) {
  std::vector<std::string> notes;
  if (point.engine == IoBackend::kNull) {
    notes.emplace_back("the null engine moves nothing: this is the cost of the program itself");
  }
  for (const aio::DiskDescription& disk : disks) {
    const std::string directory = disk.directory.string();
    if (is_in_memory(disk.file_system)) {
      notes.push_back(directory + " is " + disk.file_system + ": memory was measured, no disk");
    } else if (disk.file_system == "overlay") {
      notes.push_back(directory +
                      " is an overlay (of a container): the disk below it was "
                      "measured, through one more layer; name a mounted volume");
    }
    if (disk.rotational.value_or(false)) {
      notes.push_back(directory + " is on a rotating disk, or one that says it is (virtual disks)");
    }
  }
  const std::vector<std::size_t> neighbours = aio::paths_on_the_disk_of(disks);
  if (std::ranges::any_of(neighbours, [](std::size_t count) { return count > 1; })) {
    notes.emplace_back(
        "some of the directories are on one disk: together they give what it gives alone");
  }
  if (!point.direct && bytes < memory_bytes()) {
    notes.push_back(format_bytes(bytes) + " fit into the page cache (" +
                    format_bytes(memory_bytes()) +
                    " of memory): buffered figures are those of memory");
  }
  if (has_writes(point.workload) && bytes < 2 * kLikelyWriteCache) {
    notes.push_back("writes of " + format_bytes(bytes) +
                    " may end in the drive's own cache; a larger --size shows what lasts");
  }
  if (point.huge_pages && huge_pages_are_off()) {
    notes.push_back(std::string("the buffers have no huge pages: ") + kHugePageSwitch +
                    " says never; set it to madvise");
  }
  return notes;
}

}  // namespace strata::nvme_bench
