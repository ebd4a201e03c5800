#include "strata/base/machine_memory.h"

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

std::optional<std::uint64_t> machine_bytes(const fs::path& root) {
  constexpr std::string_view kKey = "MemTotal:";
  for (const std::string& line : lines_of(root / "proc/meminfo")) {
    if (!line.starts_with(kKey)) continue;
    const std::size_t digits = line.find_first_not_of(' ', kKey.size());
    if (digits == std::string::npos) return std::nullopt;
    if (const auto kib = number_in(std::string_view(line).substr(digits))) return *kib * 1024;
  }
  return std::nullopt;
}

/// A version of cgroups: the mount of its hierarchy, and this process's place in it.
struct Hierarchy {
  fs::path mount_point;  ///< under `root`
  std::string mounted;   ///< the cgroup that is seen at the mount point
  std::string own;       ///< the cgroup of this process
  std::string limit_file;
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
    return Hierarchy{.mount_point = root / fs::path(before[4]).relative_path(),
                     .mounted = before[3],
                     .own = {},
                     .limit_file = version_2 ? "memory.max" : "memory.limit_in_bytes"};
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

void lower(MachineMemory& memory, const Hierarchy& hierarchy) {
  fs::path below = below_mount(hierarchy);
  while (true) {
    const auto lines = lines_of(hierarchy.mount_point / below / hierarchy.limit_file);
    const auto limit = lines.empty() ? std::nullopt : number_in(lines.front());
    if (limit && *limit < memory.bytes) {
      memory = {*limit, "the memory cgroup /" + below.string()};
    }
    if (below.empty()) return;
    below = below.parent_path();
  }
}

}  // namespace

MachineMemory machine_memory(const fs::path& root) {
  MachineMemory memory{machine_bytes(root).value_or(std::numeric_limits<std::uint64_t>::max()),
                       "this machine"};
  for (const bool version_2 : {true, false}) {
    std::optional<Hierarchy> hierarchy = find_mount(root, version_2);
    const std::optional<std::string> own = own_cgroup(root, version_2);
    if (!hierarchy || !own) continue;
    hierarchy->own = *own;
    lower(memory, *hierarchy);
  }
  return memory;
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
