#include "aio/disk_device.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <fstream>
#include <iterator>
#include <system_error>
#include <vector>

namespace strata::aio {
namespace {

namespace fs = std::filesystem;

/// Devices lie on devices (LVM on LUKS on md) a few deep; a tree deeper than this is not followed.
constexpr int kLayersMax = 8;

/// The hardware facts that one device of a stack tells.
struct Hardware {
  std::string model;
  std::string pci_address;
  std::optional<int> numa_node;
};

/// The path without links; "" when it does not exist.
fs::path resolve(const fs::path& path) {
  std::error_code error;
  fs::path resolved = fs::canonical(path, error);
  return error ? fs::path() : resolved;
}

/// The entries of a directory, in the order of their names; none when it cannot be read.
std::vector<fs::path> entries_of(const fs::path& directory) {
  std::error_code error;
  std::vector<fs::path> entries;
  for (fs::directory_iterator i(directory, error), end; !error && i != end; i.increment(error)) {
    entries.push_back(i->path());
  }
  std::ranges::sort(entries);
  return entries;
}

/// The content of a small file without the blanks around it; "" when it cannot be read.
std::string read_text(const fs::path& path) {
  std::ifstream file(path);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto blank = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  text.erase(std::find_if_not(text.rbegin(), text.rend(), blank).base(), text.end());
  text.erase(text.begin(), std::ranges::find_if_not(text, blank));
  return text;
}

std::optional<int> read_number(const fs::path& path) {
  const std::string text = read_text(path);
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// "0000:01:00.0": domain (longer behind a VMD), bus, device, function.
bool is_pci_address(const std::string& name) {
  const std::size_t domain = name.find(':');
  if (domain == std::string::npos || domain < 4 || name.size() != domain + 8) return false;
  constexpr std::string_view kShape = ":xx:xx.x";
  for (std::size_t i = 0; i < name.size(); ++i) {
    const char expected = i < domain ? 'x' : kShape[i - domain];
    const bool fits = expected == 'x' ? std::isxdigit(static_cast<unsigned char>(name[i])) != 0
                                      : name[i] == expected;
    if (!fits) return false;
  }
  return true;
}

/// The last PCI device on the way to a device in sysfs: the disk's controller.
std::string pci_address_of(const fs::path& device) {
  std::string address;
  for (const fs::path& part : device) {
    if (is_pci_address(part.native())) address = part.native();
  }
  return address;
}

/// The node of the nearest device, from this one upwards, that knows its node.
std::optional<int> numa_node_in(const fs::path& sysfs, fs::path device) {
  for (; device.native().size() > sysfs.native().size(); device = device.parent_path()) {
    const std::optional<int> node = read_number(device / "numa_node");
    if (node && *node >= 0) return node;
  }
  return std::nullopt;
}

/// A partition's disk; a disk itself.
fs::path whole_disk(const fs::path& device) {
  std::error_code ignored;
  return fs::exists(device / "partition", ignored) ? device.parent_path() : device;
}

/// The devices in sysfs that a disk's requests go to next: the members of a device made of others,
/// or the controllers of an NVMe disk that may have several.
std::vector<fs::path> devices_below(const fs::path& disk) {
  std::vector<fs::path> below;
  for (const fs::path& entry : entries_of(disk / "slaves")) {
    const fs::path member = resolve(entry);
    if (!member.empty()) below.push_back(whole_disk(member));
  }
  if (disk.parent_path().parent_path().filename() == "nvme-subsystem") {
    for (const fs::path& entry : entries_of(disk.parent_path())) {
      const fs::path controller = resolve(entry);
      if (!pci_address_of(controller).empty()) below.push_back(controller);
    }
  }
  return below;
}

template <typename Value>
void keep_if_equal(Value& kept, const Value& other) {
  if (kept != other) kept = Value();
}

Hardware hardware_of(const SystemView& system, const fs::path& sysfs, const fs::path& device,
                     int layers_left) {
  Hardware own{.model = read_text(device / "device/model"),
               .pci_address = pci_address_of(device),
               .numa_node = numa_node_in(sysfs, device)};
  if (own.model.empty()) own.model = read_text(device / "model");  // the controller's model
  if (!own.numa_node && !own.pci_address.empty() && system.node_of_pci) {
    own.numa_node = system.node_of_pci(own.pci_address);
  }
  const std::vector<fs::path> below = devices_below(device);
  if (below.empty() || layers_left == 0) return own;

  Hardware common = hardware_of(system, sysfs, below.front(), layers_left - 1);
  for (auto next = below.begin() + 1; next != below.end(); ++next) {
    const Hardware other = hardware_of(system, sysfs, *next, layers_left - 1);
    keep_if_equal(common.model, other.model);
    keep_if_equal(common.pci_address, other.pci_address);
    keep_if_equal(common.numa_node, other.numa_node);
  }
  return common;
}

/// A block device in sysfs: by its number, or by the name that a mount gives as its source.
fs::path find_device(const SystemView& system, DeviceNumber number, const Mount* mount) {
  const fs::path sysfs = system.root / "sys";
  if (number.major != 0) {
    return resolve(sysfs / "dev/block" /
                   (std::to_string(number.major) + ":" + std::to_string(number.minor)));
  }
  if (mount == nullptr || !mount->source.starts_with("/dev/")) return {};
  // /dev/mapper/name links to /dev/dm-0.
  fs::path node = system.root / fs::path(mount->source).relative_path();
  if (const fs::path target = resolve(node); !target.empty()) node = target;
  return resolve(sysfs / "class/block" / node.filename());
}

}  // namespace

void describe_device(const SystemView& system, DeviceNumber device, const fs::path& path,
                     DiskDescription& description) {
  const std::vector<Mount> mounts = parse_mountinfo(read_text(system.root / "proc/self/mountinfo"));
  const Mount* const mount = find_mount(mounts, device, path);
  if (mount != nullptr) description.file_system = mount->file_system;
  const fs::path found = find_device(system, device, mount);
  if (found.empty()) return;

  const fs::path disk = whole_disk(found);
  description.device = disk.filename();
  const int rotational = read_number(disk / "queue/rotational").value_or(-1);
  if (rotational >= 0) description.rotational = rotational != 0;
  const int block_bytes = read_number(disk / "queue/logical_block_size").value_or(0);
  description.block_bytes = static_cast<std::uint32_t>(std::max(block_bytes, 0));
  Hardware hardware = hardware_of(system, resolve(system.root / "sys"), disk, kLayersMax);
  description.model = std::move(hardware.model);
  description.pci_address = std::move(hardware.pci_address);
  description.numa_node = hardware.numa_node;
}

}  // namespace strata::aio
