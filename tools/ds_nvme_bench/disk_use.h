#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace strata::nvme_bench {

/// The work of a block device in an interval, in the words of fio's disk_util. Ticks are ms.
struct DiskUse {
  std::string name;  ///< "nvme0n1"
  std::uint64_t read_ios = 0;
  std::uint64_t write_ios = 0;
  std::uint64_t read_merges = 0;
  std::uint64_t write_merges = 0;
  std::uint64_t read_ticks = 0;
  std::uint64_t write_ticks = 0;
  std::uint64_t in_queue = 0;
  std::uint64_t busy_ticks = 0;  ///< time with at least one request in it
};

/// The kernel's totals since it was started, of those devices that have some. Names that occur
/// twice or are empty are left out.
[[nodiscard]] std::vector<DiskUse> read_disk_use(const std::vector<std::string>& devices);

/// The sum of two, under the name of the first.
[[nodiscard]] DiskUse added(const DiskUse& use, const DiskUse& other);

/// The difference from `before` to `after`.
[[nodiscard]] std::vector<DiskUse> difference(const std::vector<DiskUse>& after,
                                              const std::vector<DiskUse>& before);

}  // namespace strata::nvme_bench
