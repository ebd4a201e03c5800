#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>

#include "strata/aio/submitter.h"
#include "strata/base/clock.h"
#include "strata/base/units.h"

namespace strata::aio {

/// The speeds of directories that are used at once, all together, in bytes/s.
struct PathSpeeds {
  double read = 0;   ///< reading alone
  double write = 0;  ///< writing alone
  /// How far reads and writes that go on side by side overlap: r seconds of reading and w of
  /// writing take max(r, w) + (1 - overlap) min(r, w). 1 at most; below 0, to kOverlapMin, they are
  /// slower side by side than one after the other.
  double overlap = 0;

  static constexpr double kOverlapMin = -4;

  /// What is left of them while other threads compute on all cores; 1 where that was not measured.
  double beside_compute = 1;
};

/// What is measured with.
struct PathLoad {
  std::uint64_t file_bytes = 1_GiB;       ///< of the scratch file in each directory
  std::uint64_t operation_bytes = 1_MiB;  ///< of a transfer
  std::size_t operations = 32;            ///< in flight at once, in each directory
  /// Bytes that are read in a row, and then written, where both are done: the states of a window.
  /// A disk that overlaps the two within its queue has less to overlap the longer the turns are.
  std::uint64_t turn_bytes = 8_MiB;
  int computing_threads = 0;            ///< for the part beside computation; 0: it is left out
  std::chrono::milliseconds time{700};  ///< of each of the parts
  /// For so long both are done before they count: disks behind a cache, and shared ones, begin
  /// faster than they go on.
  std::chrono::milliseconds settling{2000};
};

/// Measures what `directories` give together, as a training step uses them: sequential transfers
/// over blocks that were written before, so that neither a file system that allocates nor one that
/// knows a block to be empty is measured. Five parts: the file is filled, as far as the time
/// allows; then both read and written in turns, as a step does for most of its time; the same while
/// threads compute; then read, and written.
///
/// The scratch files have no name and are gone afterwards, whatever way this ends; room for all of
/// them is taken first. `check` is called between transfers and may throw, which ends it. Memory:
/// `operations` transfers for each directory. `clock` is the queue's.
///
/// Throws ConfigError for no directory, or a load that does not fit into its file or whose turns
/// are no whole operations; IoError when
/// a directory cannot be written to, has no room for the file, or a transfer fails;
/// DeadlineExceeded when one never came back.
[[nodiscard]] PathSpeeds measure_paths(
    Submitter& queue, std::span<const std::filesystem::path> directories, const PathLoad& load = {},
    const std::function<void()>& check = [] {}, const Clock& clock = kSystemClock);

}  // namespace strata::aio
