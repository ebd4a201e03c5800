#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "point.h"

/// \file
/// The settings that a search chooses from.

namespace strata::nvme_bench {

/// The part of a point that can be chosen.
struct Setting {
  IoBackend engine = IoBackend::kAuto;
  std::uint64_t block_bytes = 0;
  std::uint32_t depth = 0;
  std::uint32_t threads = 0;

  /// Memory that the requests in flight take.
  [[nodiscard]] std::uint64_t bytes_in_flight() const { return block_bytes * depth * threads; }
  [[nodiscard]] Point point(Workload workload) const;

  auto operator<=>(const Setting&) const = default;
};

/// A setting in words: "io_uring, 1 MiB, depth 32, 1 thread"
[[nodiscard]] std::string describe(const Setting& setting);

/// Every combination of the axes but those that need more memory, or a longer part of the file,
/// than there is. Axes are ascending.
struct SearchSpace {
  std::vector<IoBackend> engines;
  std::vector<std::uint64_t> blocks;
  std::vector<std::uint32_t> depths;
  std::vector<std::uint32_t> threads;
  std::uint64_t in_flight_bytes_max = 128_MiB;  ///< more, no training run can spare
  std::uint64_t file_bytes = UINT64_MAX;  ///< the smallest file: a thread's part holds a block

  /// Blocks from 128 KiB to 16 MiB, depths from 1 to 128, threads to `cores` (16 at most).
  [[nodiscard]] static SearchSpace usual(std::vector<IoBackend> engines, std::uint32_t cores,
                                         std::uint64_t file_bytes);

  [[nodiscard]] bool allows(const Setting& setting) const;
  /// All settings, in order of the axes.
  [[nodiscard]] std::vector<Setting> all() const;
  /// A coarse lattice that a search begins with: for every engine, small, middle and large blocks
  /// with few, some and many requests in flight on one thread, and one middle setting on more.
  [[nodiscard]] std::vector<Setting> lattice() const;
  /// Neighbours of `setting`: one step along an axis, the same memory in blocks of twice and half
  /// the size, and the other engines.
  [[nodiscard]] std::vector<Setting> neighbours(const Setting& setting) const;
};

}  // namespace strata::nvme_bench
