#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "strata/aio/path_meter.h"
#include "strata/aio/submitter.h"
#include "strata/base/clock.h"
#include "strata/base/log.h"

namespace strata::aio {

/// Tries what each directory gives, one after the other, while nothing else uses the queue: large
/// sequential writes, then reads of what was written, 100 ms each, in a scratch file of 64 MiB that
/// is gone afterwards. `clock` is the queue's. The results go to `log` in one line. Needs 8 MiB of
/// memory meanwhile; no budget counts the memory or the file.
///
/// Directories on one disk are tried like others, and each then gets an equal part of the result:
/// in use they share the disk.
///
/// One directory is not tried, for there is nothing to compare it with: its bandwidth is unknown.
/// When a trial fails (no room for its file, a bad disk), which is logged, all are unknown. Throws
/// DeadlineExceeded when a transfer never came back.
[[nodiscard]] std::vector<PathBandwidth> try_paths(
    Submitter& queue, std::span<const std::filesystem::path> directories, Logger& log,
    const Clock& clock = kSystemClock);

}  // namespace strata::aio
