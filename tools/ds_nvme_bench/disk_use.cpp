#include "disk_use.h"

#include <algorithm>
#include <fstream>
#include <set>

namespace strata::nvme_bench {
namespace {

constexpr std::uint64_t DiskUse::*kNumbers[] = {
    &DiskUse::read_ios,   &DiskUse::write_ios,   &DiskUse::read_merges, &DiskUse::write_merges,
    &DiskUse::read_ticks, &DiskUse::write_ticks, &DiskUse::in_queue,    &DiskUse::busy_ticks};

}  // namespace

std::vector<DiskUse> read_disk_use(const std::vector<std::string>& devices) {
  std::vector<DiskUse> uses;
  for (const std::string& device : std::set<std::string>(devices.begin(), devices.end())) {
    if (device.empty()) continue;
    std::ifstream file("/sys/block/" + device + "/stat");
    DiskUse use{.name = device};
    std::uint64_t read_sectors = 0;
    std::uint64_t write_sectors = 0;
    std::uint64_t in_flight = 0;
    if (file >> use.read_ios >> use.read_merges >> read_sectors >> use.read_ticks >>
        use.write_ios >> use.write_merges >> write_sectors >> use.write_ticks >> in_flight >>
        use.busy_ticks >> use.in_queue) {
      uses.push_back(use);
    }
  }
  return uses;
}

DiskUse added(const DiskUse& use, const DiskUse& other) {
  DiskUse sum = use;
  for (const auto number : kNumbers) sum.*number += other.*number;
  return sum;
}

std::vector<DiskUse> difference(const std::vector<DiskUse>& after,
                                const std::vector<DiskUse>& before) {
  std::vector<DiskUse> uses;
  for (const DiskUse& end : after) {
    const auto begin = std::find_if(before.begin(), before.end(),
                                    [&](const DiskUse& use) { return use.name == end.name; });
    if (begin == before.end()) continue;
    DiskUse use{.name = end.name};
    for (const auto number : kNumbers) use.*number = end.*number - (*begin).*number;
    uses.push_back(use);
  }
  return uses;
}

}  // namespace strata::nvme_bench
