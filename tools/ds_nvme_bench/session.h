#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "command.h"
#include "live_line.h"
#include "options.h"
#include "point.h"
#include "report.h"
#include "result.h"
#include "strata/aio/disk.h"
#include "target_files.h"

namespace strata::nvme_bench {

/// The session of a command that measures: looks at the directories, makes the files, measures
/// points over them with a live line, and hears SIGINT and SIGTERM meanwhile.
class Session {
 public:
  /// `points` are those that will be measured, as far as they are known: impossible ones are
  /// refused before anything is written. Without a size, default_bytes. Throws ConfigError (no
  /// directory, one that is missing, a point that does not fit), IoError (an engine that the kernel
  /// refuses, a full disk), DeadlineExceeded, Interrupted.
  Session(const TargetOptions& target, const std::vector<Point>& points, const Console& console);

  /// Runs a point. After a signal, or when the disk does not answer any more, the result covers the
  /// time until then, and the session is over.
  [[nodiscard]] PointResult measure(const Point& point, const Limits& limits);

  /// Whether nothing more is to be measured.
  [[nodiscard]] bool is_over() const noexcept {
    return !interruption_.empty() || !unanswered_.empty();
  }
  /// Throws Interrupted or DeadlineExceeded when it is.
  void throw_if_over() const;

  /// Does what measure does; returns the result with all that explains it.
  [[nodiscard]] Report report(const Point& point, const Limits& limits);

  [[nodiscard]] const std::vector<aio::DiskDescription>& disks() const { return files_->disks(); }
  [[nodiscard]] std::uint64_t bytes() const { return files_->bytes(); }
  [[nodiscard]] const TargetFiles& files() const { return *files_; }

 private:
  using Clock = std::chrono::steady_clock;

  /// Says once when the disks have not moved anything for a while.
  void note_silence(bool moved);

  std::vector<std::filesystem::path> directories_;
  const std::chrono::nanoseconds timeout_;
  const Console& console_;
  LiveLine line_;
  std::ostream nowhere_{nullptr};  // the engine's messages are in the result
  Logger engine_log_{nowhere_};
  Clock::time_point heard_ = Clock::now();  // when the disks moved something last
  bool silent_ = false;
  std::string interruption_;
  std::string unanswered_;
  std::optional<TargetFiles> files_;
};

/// 2 GiB, or a quarter of what is free where that is less; a multiple of 1 MiB for each directory.
[[nodiscard]] std::uint64_t default_bytes(const std::vector<aio::DiskDescription>& disks);

}  // namespace strata::nvme_bench
