#include "aio/disk_mount.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <sstream>

namespace strata::aio {
namespace {

bool is_octal(char digit) { return digit >= '0' && digit <= '7'; }

/// mountinfo writes spaces, tabs, newlines and backslashes as "\040".
std::string unescape(std::string_view field) {
  std::string text;
  for (std::size_t i = 0; i < field.size(); ++i) {
    const std::string_view digits = field.substr(std::min(i + 1, field.size()), 3);
    if (field[i] == '\\' && digits.size() == 3 && std::ranges::all_of(digits, is_octal)) {
      text += static_cast<char>((digits[0] - '0') * 64 + (digits[1] - '0') * 8 + (digits[2] - '0'));
      i += 3;
    } else {
      text += field[i];
    }
  }
  return text;
}

bool lies_under(const std::filesystem::path& path, const std::filesystem::path& directory) {
  const auto [rest, ignored] = std::ranges::mismatch(directory, path);
  return rest == directory.end();
}

}  // namespace

// Line: 36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/sda1 rw
// The fields between the options and the dash come in any number.
std::vector<Mount> parse_mountinfo(std::string_view text) {
  std::vector<Mount> mounts;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    const std::vector<std::string> fields{std::istream_iterator<std::string>(words), {}};
    const auto dash = std::ranges::find(fields, "-");
    if (dash - fields.begin() < 6 || fields.end() - dash < 3) continue;
    DeviceNumber device;
    if (std::sscanf(fields[2].c_str(), "%u:%u", &device.major, &device.minor) != 2) continue;
    mounts.push_back({.device = device,
                      .mount_point = unescape(fields[4]),
                      .file_system = unescape(dash[1]),
                      .source = unescape(dash[2])});
  }
  return mounts;
}

// A later mount hides an earlier one at the same place.
const Mount* find_mount(std::span<const Mount> mounts, DeviceNumber device,
                        const std::filesystem::path& path) {
  const Mount* by_device = nullptr;
  const Mount* by_path = nullptr;
  const auto length = [](const Mount& mount) { return mount.mount_point.native().size(); };
  for (const Mount& mount : mounts) {
    if (mount.device == device) by_device = &mount;
    if (!lies_under(path, mount.mount_point)) continue;
    if (by_path == nullptr || length(mount) >= length(*by_path)) by_path = &mount;
  }
  return by_device != nullptr ? by_device : by_path;
}

}  // namespace strata::aio
