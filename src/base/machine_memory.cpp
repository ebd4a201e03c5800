#include "strata/base/machine_memory.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata {
namespace {

namespace fs = std::filesystem;

/// A file of /proc or /sys; no lines where it cannot be read.
std::vector<std::string> lines_of(const fs::path& file) {
  std::vector<std::string> lines;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) lines.push_back(std::move(line));
  return lines;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

bool has_part(std::string_view list, std::string_view part) {
  for (const std::string& candidate : split(list, ',')) {
    if (candidate == part) return true;
  }
  return false;
}

/// The number that a text begins with; nullopt for "max" and anything else.
std::optional<std::uint64_t> number_in(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  return number;
}

/// The number behind `key` and spaces, in the line that begins so.
std::optional<std::uint64_t> number_of(std::string_view key,
                                       const std::vector<std::string>& lines) {
  for (const std::string& line : lines) {
    if (!line.starts_with(key)) continue;
    const std::size_t digits = line.find_first_not_of(' ', key.size());
    if (digits == std::string::npos) return std::nullopt;
    return number_in(std::string_view(line).substr(digits));
  }
  return std::nullopt;
}

enum class Amount { kInAll, kAvailable };

std::uint64_t machine_bytes(const fs::path& root, Amount amount) {
  const std::vector<std::string> lines = lines_of(root / "proc/meminfo");
  auto kib = number_of("MemTotal:", lines);
  if (amount == Amount::kAvailable) {
    if (const auto available = number_of("MemAvailable:", lines)) kib = available;
  }
  return kib ? *kib * 1024 : std::numeric_limits<std::uint64_t>::max();
}

/// The files of a cgroup that say what it may use and uses.
struct CgroupFiles {
  const char *limit, *usage;
  const char *inactive_files, *active_files;  // keys of memory.stat, with those of groups below
};
constexpr CgroupFiles kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                   "total_inactive_file ", "total_active_file "};
constexpr CgroupFiles kVersion2 = {"memory.max", "memory.current", "inactive_file ",
                                   "active_file "};

std::optional<std::uint64_t> number_in_file(const fs::path& file) {
  const std::vector<std::string> lines = lines_of(file);
  return lines.empty() ? std::nullopt : number_in(lines.front());
}

/// Bytes of a cgroup; nullopt where it has no limit.
std::optional<std::uint64_t> cgroup_bytes(const fs::path& cgroup, const CgroupFiles& files,
                                          Amount amount) {
  const auto limit = number_in_file(cgroup / files.limit);
  if (!limit || amount == Amount::kInAll) return limit;
  std::uint64_t used = number_in_file(cgroup / files.usage).value_or(0);
  const std::vector<std::string> statistics = lines_of(cgroup / "memory.stat");
  for (const char* const key : {files.inactive_files, files.active_files}) {
    used -= std::min(used, number_of(key, statistics).value_or(0));
  }
  return *limit - std::min(*limit, used);
}

/// A version of cgroups: the mount of its hierarchy, and this process's place in it.
struct Hierarchy {
  fs::path mount_point;  ///< under `root`
  std::string mounted;   ///< the cgroup that is seen at the mount point
  std::string own;       ///< the cgroup of this process
};

/// /proc/self/mountinfo: id parent device ROOT POINT options [fields...] - TYPE source SUPER.
/// Spaces in a name stand there as \040.
std::optional<Hierarchy> find_mount(const fs::path& root, bool version_2) {
  for (const std::string& line : lines_of(root / "proc/self/mountinfo")) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    const auto before = split(std::string_view(line).substr(0, dash), ' ');
    const auto after = split(std::string_view(line).substr(dash + 3), ' ');
    if (before.size() < 5 || after.size() < 3) continue;
    if (version_2 ? after[0] != "cgroup2" : after[0] != "cgroup" || !has_part(after[2], "memory")) {
      continue;
    }
    return Hierarchy{
        .mount_point = root / fs::path(before[4]).relative_path(), .mounted = before[3], .own = {}};
  }
  return std::nullopt;
}

/// /proc/self/cgroup: ID:CONTROLLERS:PATH; version 2 is "0::PATH".
std::optional<std::string> own_cgroup(const fs::path& root, bool version_2) {
  for (const std::string& line : lines_of(root / "proc/self/cgroup")) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string_view controllers =
        std::string_view(line).substr(first + 1, second - first - 1);
    if (version_2 ? line.starts_with("0::") : has_part(controllers, "memory")) {
      return line.substr(second + 1);
    }
  }
  return std::nullopt;
}

/// The path of the process's cgroup below the mount point. Where a container sees only a part of
/// the hierarchy, that part is its own.
fs::path below_mount(const Hierarchy& hierarchy) {
  std::string_view own = hierarchy.own;
  const std::string_view mounted = hierarchy.mounted;
  if (mounted != "/") {
    if (!own.starts_with(mounted)) return {};
    own.remove_prefix(mounted.size());
  }
  const fs::path below = fs::path(own).relative_path().lexically_normal();
  return below.empty() || below == "." || *below.begin() == ".." ? fs::path() : below;
}

void lower(MachineMemory& memory, const Hierarchy& hierarchy, const CgroupFiles& files,
           Amount amount) {
  fs::path below = below_mount(hierarchy);
  while (true) {
    const auto bytes = cgroup_bytes(hierarchy.mount_point / below, files, amount);
    if (bytes && *bytes < memory.bytes) {
      memory = {*bytes, "the memory cgroup /" + below.string()};
    }
    if (below.empty()) return;
    below = below.parent_path();
  }
}

MachineMemory least(const fs::path& root, Amount amount) {
  MachineMemory memory{machine_bytes(root, amount), "this machine"};
  for (const bool version_2 : {true, false}) {
    std::optional<Hierarchy> hierarchy = find_mount(root, version_2);
    const std::optional<std::string> own = own_cgroup(root, version_2);
    if (!hierarchy || !own) continue;
    hierarchy->own = *own;
    lower(memory, *hierarchy, version_2 ? kVersion2 : kVersion1, amount);
  }
  return memory;
}

}  // namespace

MachineMemory machine_memory(const fs::path& root) { return least(root, Amount::kInAll); }

MachineMemory available_memory(const fs::path& root) { return least(root, Amount::kAvailable); }

HostMemoryBound HostMemoryBound::part_of(std::uint64_t count) const {
  if (count == 1) return *this;
  return {.available = available / count,
          .reserve = reserve / count,
          .source = source + ", shared by " + std::to_string(count)};
}

HostMemoryBound host_memory_bound(const MachineMemory& available) {
  const std::uint64_t wished = std::max<std::uint64_t>(available.bytes / 10, 1_GiB);
  return {.available = available.bytes,
          .reserve = std::min(wished, available.bytes / 2),
          .source = available.bound};
}

std::string describe(const HostMemoryBound& bound) {
  return format_bytes(bound.bytes()) + " (" + format_bytes(bound.available) + " available of " +
         bound.source + ", less " + format_bytes(bound.reserve) + " for LibTorch's own memory)";
}

void require_machine_memory(std::uint64_t bytes, const MachineMemory& memory) {
  if (bytes <= memory.bytes) return;
  throw BudgetError("the plan takes " + format_bytes(bytes) +
                    " of host memory (the host tier, and without a GPU the device tier too), and " +
                    memory.bound + " has " + format_bytes(memory.bytes) +
                    "; name budgets that fit into it (strata.budget, or --budget "
                    "host=SIZE,device=SIZE), or keep more on disk (\"device\": \"nvme\" in "
                    "zero_optimization.offload_optimizer and offload_param)");
}

}  // namespace strata
