#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "support/temp_directory.h"

namespace strata::aio {

/// A made-up machine's proc, sys and dev, laid out as the kernel lays them out.
class DiskTree {
 public:
  [[nodiscard]] const std::filesystem::path& root() const { return directory_.path(); }

  /// Paths are relative to the root.
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root() / path).parent_path());
    std::ofstream(root() / path) << text << '\n';
  }
  void link(const std::string& path, const std::string& target) {
    std::filesystem::create_directories((root() / path).parent_path());
    const auto relative = std::filesystem::relative(root() / target, (root() / path).parent_path());
    std::filesystem::create_symlink(relative, root() / path);
  }
  /// A line of mountinfo.
  void mount(const std::string& device, const std::string& mount_point, const std::string& type,
             const std::string& source) {
    mounts_ += "36 35 " + device + " / " + mount_point + " rw,noatime shared:1 - " + type + " " +
               source + " rw\n";
    write("proc/self/mountinfo", mounts_);
  }

  /// A block device at `path` under sys/devices.
  void block_device(const std::string& path, const std::string& number) {
    const std::string place = "sys/devices/" + path;
    write(place + "/dev", number);
    link("sys/dev/block/" + number, place);
    link("sys/class/block/" + std::filesystem::path(path).filename().string(), place);
  }
  void disk(const std::string& path, const std::string& number, const std::string& rotational,
            const std::string& logical_block) {
    block_device(path, number);
    write("sys/devices/" + path + "/queue/rotational", rotational);
    write("sys/devices/" + path + "/queue/logical_block_size", logical_block);
  }
  void partition(const std::string& path, const std::string& number) {
    block_device(path, number);
    write("sys/devices/" + path + "/partition", "1");
  }
  /// An NVMe disk nvme<i>n1 (259:<10 i>) with a partition nvme<i>n1p1 (259:<10 i + 1>).
  void nvme(int i, const std::string& pci, const std::string& model, const std::string& node) {
    const std::string name = "nvme" + std::to_string(i);
    const std::string controller = "pci0000:00/" + pci + "/nvme/" + name;
    const std::string namespace_path = controller + "/" + name + "n1";
    disk(namespace_path, "259:" + std::to_string(10 * i), "0", "512");
    partition(namespace_path + "/" + name + "n1p1", "259:" + std::to_string(10 * i + 1));
    write("sys/devices/" + controller + "/model", model);
    write("sys/devices/pci0000:00/" + pci + "/numa_node", node);
    link("sys/devices/" + namespace_path + "/device", "sys/devices/" + controller);
  }
  /// A device dm-<i> (252:<i>) or md<i> (9:<i>) made of others.
  void made_of(const std::string& name, const std::string& number,
               std::initializer_list<std::string> members) {
    disk("virtual/block/" + name, number, "0", "4096");
    for (const std::string& member : members) {
      const std::string place = std::filesystem::relative(
          std::filesystem::canonical(root() / "sys/class/block" / member), root());
      link("sys/devices/virtual/block/" + name + "/slaves/" + member, place);
    }
  }

 private:
  support::TempDirectory directory_;
  std::string mounts_;
};

}  // namespace strata::aio
