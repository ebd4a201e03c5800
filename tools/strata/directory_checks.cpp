#include "directory_checks.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <sstream>
#include <string_view>
#include <utility>

#include "machine_checks.h"
#include "strata/aio/io_file.h"
#include "strata/aio/io_queue.h"
#include "strata/base/error.h"
#include "strata/base/log.h"
#include "strata/base/units.h"
#include "system_files.h"

namespace strata::tool {
namespace {

namespace fs = std::filesystem;

/// A tier with less is full after the smallest of models.
constexpr std::uint64_t kSpaceLeast = 1_GiB;
constexpr std::uint64_t kSpaceWanted = 20_GiB;

/// A queue's depth, unless the config says otherwise.
constexpr std::int64_t kRequestsWanted = 32;

constexpr int kWearNoted = 80;
constexpr int kWearMost = 100;

/// What of a file system's habits hurts, and what to do.
struct FileSystemHabit {
  std::string_view name;  ///< of a type, or how types begin
  Severity severity;
  std::string_view habit;
  std::string_view cure;
};
constexpr std::array kHabits = {
    FileSystemHabit{"tmpfs", Severity::kProblem,
                    "its files are host memory: what goes there leaves no room",
                    "name a directory on a disk"},
    FileSystemHabit{"ramfs", Severity::kProblem,
                    "its files are host memory: what goes there leaves no room",
                    "name a directory on a disk"},
    FileSystemHabit{"nfs", Severity::kNote, "every transfer goes over the network",
                    "name a directory on a local NVMe disk"},
    FileSystemHabit{"cifs", Severity::kNote, "every transfer goes over the network",
                    "name a directory on a local NVMe disk"},
    FileSystemHabit{"smb", Severity::kNote, "every transfer goes over the network",
                    "name a directory on a local NVMe disk"},
    FileSystemHabit{"9p", Severity::kNote, "every transfer goes through the host",
                    "give the machine a disk of its own"},
    FileSystemHabit{"virtiofs", Severity::kNote, "every transfer goes through the host",
                    "give the machine a disk of its own"},
    FileSystemHabit{"fuse", Severity::kNote, "every transfer goes through another program",
                    "name a directory on ext4 or xfs"},
    FileSystemHabit{"overlay", Severity::kNote,
                    "it is a container's own layer, on a disk that others share",
                    "docker run --volume /path/on/nvme:/nvme ..., and name /nvme"},
    FileSystemHabit{"btrfs", Severity::kNote,
                    "it copies what is written again, and computes sums that Strata has too",
                    "in an empty directory: chattr +C DIR; or name one on ext4 or xfs"},
    FileSystemHabit{"zfs", Severity::kNote,
                    "it copies what is written again, and its own cache takes memory",
                    "name a directory on ext4 or xfs"},
};

std::string quoted(const fs::path& path) {
  std::string text = "'";
  for (const char c : path.native()) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::string cure_of_refusal(const DirectoryFacts& facts) {
  const std::string directory = quoted(facts.directory);
  switch (facts.refusal->code) {
    case ENOENT: return "mkdir -p " + directory;
    case EACCES:
    case EPERM: return "sudo chown \"$USER\" " + directory;
    case EROFS: return "sudo mount -o remount,rw \"$(findmnt -n -o TARGET -T " + directory + ")\"";
    case ENOSPC:
    case EDQUOT: return "make room: du -xh --max-depth=1 " + directory + " | sort -h";
    default: return "name another directory; sudo dmesg | tail may say more";
  }
}

bool is_nvme(const DirectoryFacts& facts) {
  return facts.disk && facts.disk->device.starts_with("nvme");
}

/// The choice in brackets of "none [mq-deadline] kyber".
std::string chosen_of(const std::string& choices) {
  const std::size_t begin = choices.find('[');
  const std::size_t end = choices.find(']');
  if (begin == std::string::npos || end == std::string::npos || end < begin) return choices;
  return choices.substr(begin + 1, end - begin - 1);
}

/// The hwmon directory of an NVMe controller. It hangs on the controller, or on its PCI device in
/// older kernels.
fs::path sensor_of(const fs::path& root, const std::string& pci_address) {
  if (pci_address.empty()) return {};
  const fs::path pci = root / "sys/bus/pci/devices" / pci_address;
  std::vector<fs::path> places = {pci / "hwmon"};
  for (const fs::path& controller : system_entries(pci / "nvme")) {
    places.push_back(controller);
    places.push_back(controller / "hwmon");
  }
  for (const fs::path& place : places) {
    for (const fs::path& entry : system_entries(place)) {
      if (!system_text(entry / "temp1_input").empty()) return entry;
    }
  }
  return {};
}

/// Degrees of a file with thousandths.
std::optional<int> degrees(const fs::path& file) {
  const auto thousandths = system_number(file);
  if (!thousandths) return std::nullopt;
  return static_cast<int>(*thousandths / 1000);
}

std::string celsius(int degrees) { return std::to_string(degrees) + " C"; }

/// The relative distance of two nodes by the firmware (10: the same), where it tells.
std::optional<std::int64_t> distance(const fs::path& root, int from, int to) {
  const fs::path nodes = root / "sys/devices/system/node";
  // The line has one number for each node that is there, in the order of their numbers.
  std::vector<int> there;
  for (const fs::path& entry : system_entries(nodes)) {
    const std::string name = entry.filename();
    if (!name.starts_with("node")) continue;
    if (const auto number = leading_number(std::string_view(name).substr(4))) {
      there.push_back(static_cast<int>(*number));
    }
  }
  std::sort(there.begin(), there.end());
  std::istringstream distances(system_text(nodes / ("node" + std::to_string(from)) / "distance"));
  std::int64_t value = 0;
  for (const int node : there) {
    if (!(distances >> value)) return std::nullopt;
    if (node == to) return value;
  }
  return std::nullopt;
}

}  // namespace

DirectoryFacts look_at(const fs::path& directory) {
  DirectoryFacts facts;
  facts.directory = directory;
  try {
    facts.disk = aio::describe_disk(directory);
    const aio::IoFile file = aio::IoFile::create_scratch(directory);
    facts.direct = file.direct();
    facts.alignment = file.alignment();
    std::ostringstream unheard;
    Logger log(unheard);
    facts.engine = aio::IoQueue({.depth = 1, .threads = 1}, directory, log).description();
  } catch (const IoError& error) {
    facts.refusal = Refusal{error.code(), error.what()};
  }
  facts.smart = read_smart_log(facts.disk ? facts.disk->device : "");
  return facts;
}

Finding check_writable(const DirectoryFacts& facts) {
  if (!facts.refusal) return {"directory", Severity::kOk, "is there, and takes files"};
  return {"directory", Severity::kProblem, facts.refusal->reason, cure_of_refusal(facts)};
}

Finding check_file_system(const DirectoryFacts& facts) {
  const std::string& type = facts.disk->file_system;
  for (const FileSystemHabit& habit : kHabits) {
    if (!type.starts_with(habit.name)) continue;
    return {"file system", habit.severity, type + ": " + std::string(habit.habit),
            std::string(habit.cure)};
  }
  return {"file system", Severity::kOk, type.empty() ? "its type is not told" : type};
}

Finding check_direct_io(const DirectoryFacts& facts) {
  if (facts.direct) {
    return {"direct I/O", Severity::kOk,
            "O_DIRECT, in multiples of " + std::to_string(facts.alignment) + " bytes"};
  }
  return {"direct I/O", Severity::kNote,
          "this file system takes no O_DIRECT: every byte is copied, and the page cache competes "
          "for memory",
          "name a directory on ext4 or xfs"};
}

Finding check_engine(const DirectoryFacts& facts) {
  if (facts.engine.find('(') == std::string::npos) {
    return {"I/O engine", Severity::kOk, facts.engine + " moved a block there and back"};
  }
  return {"I/O engine", Severity::kNote, facts.engine, "see io_uring and libaio above"};
}

Finding check_free_space(const DirectoryFacts& facts) {
  const std::uint64_t free = facts.disk->free_bytes;
  Finding finding{"free space", Severity::kOk,
                  format_bytes(free) + " of " + format_bytes(facts.disk->total_bytes)};
  if (free >= kSpaceWanted) return finding;
  finding.severity = free < kSpaceLeast ? Severity::kProblem : Severity::kNote;
  finding.found += ": a parameter takes up to 16 bytes of it";
  finding.cure = "du -xh --max-depth=1 " + quoted(facts.directory) +
                 " | sort -h, or name a directory on another disk too (--nvme A --nvme B)";
  return finding;
}

Finding check_device(const fs::path& root, const DirectoryFacts& facts) {
  const aio::DiskDescription& disk = *facts.disk;
  if (disk.device.empty()) return {"device", Severity::kOk, "none is told"};
  const fs::path queue = root / "sys/class/block" / disk.device / "queue";
  const std::string scheduler = chosen_of(system_text(queue / "scheduler"));
  const auto requests = system_number(queue / "nr_requests");

  Finding finding{"device", Severity::kOk, disk.device};
  if (!disk.model.empty()) finding.found += " (" + disk.model + ")";
  if (!scheduler.empty()) finding.found += ", scheduler " + scheduler;
  if (requests) finding.found += ", queue of " + std::to_string(*requests);
  const auto note = [&](std::string_view why, std::string cure) {
    finding.severity = Severity::kNote;
    finding.found += ": " + std::string(why);
    finding.cure = std::move(cure);
  };
  const std::string in_sysfs = "/sys/class/block/" + disk.device + "/queue/";
  if (requests && *requests < kRequestsWanted) {
    note("shorter than an engine's, so that requests wait",
         "echo 256 | sudo tee " + in_sysfs + "nr_requests");
  } else if (is_nvme(facts) && !scheduler.empty() && scheduler != "none") {
    note("an NVMe disk orders its requests itself",
         "echo none | sudo tee " + in_sysfs + "scheduler");
  } else if (disk.rotational == true) {
    note("it says that it rotates; a disk with heads is a hundred times too slow",
         "name a directory on an NVMe disk; a virtual disk may say so without reason: "
         "ds_nvme_bench " +
             quoted(facts.directory) + " measures it");
  }
  return finding;
}

Finding check_temperature(const fs::path& root, const DirectoryFacts& facts) {
  const fs::path sensor = sensor_of(root, facts.disk->pci_address);
  const auto now = sensor.empty() ? std::nullopt : degrees(sensor / "temp1_input");
  if (!now) return {"temperature", Severity::kOk, "not told"};
  const auto warning = degrees(sensor / "temp1_max");
  const auto critical = degrees(sensor / "temp1_crit");
  Finding finding{"temperature", Severity::kOk, celsius(*now)};
  if (warning) finding.found += ", too warm from " + celsius(*warning);
  if (critical) finding.found += ", critical from " + celsius(*critical);
  if (critical && *now >= *critical) {
    finding.severity = Severity::kProblem;
    finding.found += ": it may stop";
  } else if (warning && *now >= *warning) {
    finding.severity = Severity::kNote;
    finding.found += ": it slows down";
  } else {
    return finding;
  }
  finding.cure =
      "give the disk air or a heat sink; watch it: sudo nvme smart-log /dev/" + facts.disk->device;
  return finding;
}

Finding check_wear(const DirectoryFacts& facts) {
  if (!facts.smart.log) {
    if (!is_nvme(facts)) return {"wear", Severity::kOk, "not told"};
    return {"wear", Severity::kNote, "not told: " + facts.smart.why_not,
            "sudo strata doctor " + quoted(facts.directory)};
  }
  const SmartLog& log = *facts.smart.log;
  Finding finding{"wear", Severity::kOk, describe(log)};
  if (log.critical_warning || log.media_errors > 0 || log.percentage_used >= kWearMost) {
    finding.severity = Severity::kProblem;
  } else if (log.percentage_used >= kWearNoted) {
    finding.severity = Severity::kNote;
  }
  if (finding.severity != Severity::kOk) {
    finding.cure =
        "save what is on it and replace it; what it says of itself: sudo nvme smart-log "
        "/dev/" +
        facts.disk->device;
  }
  return finding;
}

Finding check_numa(const fs::path& root, const DirectoryFacts& facts) {
  const std::vector<Gpu> gpus = find_gpus(root);
  const std::optional<int> node = facts.disk->numa_node;
  if (!node) return {"numa", Severity::kOk, "the disk is next to no node in particular"};
  Finding finding{"numa", Severity::kOk, "the disk is next to node " + std::to_string(*node)};
  const bool all_far = !gpus.empty() && std::none_of(gpus.begin(), gpus.end(), [&](const Gpu& gpu) {
    return !gpu.numa_node || *gpu.numa_node == *node;
  });
  if (!all_far) return finding;
  const Gpu& gpu = gpus.front();
  finding.severity = Severity::kNote;
  finding.found += ", GPU " + gpu.pci_address + " to node " + std::to_string(*gpu.numa_node);
  if (const auto far = distance(root, *node, *gpu.numa_node)) {
    finding.found += ", at distance " + std::to_string(*far) + " (10 is the same node)";
  }
  finding.found += ": every byte crosses between them";
  finding.cure = "name a directory on a disk of node " + std::to_string(*gpu.numa_node) +
                 "; lstopo shows which";
  return finding;
}

std::vector<Finding> check_directory(const fs::path& root, const DirectoryFacts& facts) {
  std::vector<Finding> findings = {check_writable(facts)};
  if (facts.disk) {
    findings.push_back(check_file_system(facts));
    if (!facts.refusal) {
      findings.push_back(check_direct_io(facts));
      findings.push_back(check_engine(facts));
    }
    findings.push_back(check_free_space(facts));
    findings.push_back(check_device(root, facts));
    findings.push_back(check_temperature(root, facts));
    findings.push_back(check_wear(facts));
    findings.push_back(check_numa(root, facts));
  }
  return findings;
}

}  // namespace strata::tool
