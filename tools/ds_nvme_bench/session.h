#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "command.h"
#include "live_line.h"
#include "point.h"
#include "report.h"
#include "result.h"
#include "strata/aio/disk.h"
#include "target_files.h"

namespace strata::bench {

/// What every command that measures does: looks at the directories, makes the files, measures
/// points over them with a live line, and hears SIGINT and SIGTERM meanwhile.
class Session {
 public:
  /// `points` are those that will be measured, as far as they are known: what cannot be done is
  /// refused before anything is written. Without `bytes`, default_bytes. Throws ConfigError (no
  /// directory, one that is missing, a point that does not fit), IoError, Interrupted.
  Session(std::vector<std::filesystem::path> directories, std::optional<std::uint64_t> bytes,
          const std::vector<Point>& points, const Console& console);

  /// Runs a point. After a signal the result is what there was until then, and `interruption` says
  /// so.
  [[nodiscard]] PointResult measure(const Point& point, const Limits& limits);

  /// "" or "interrupted (SIGINT)".
  [[nodiscard]] const std::string& interruption() const noexcept { return interruption_; }

  /// As measure, with all that explains it.
  [[nodiscard]] Report report(const Point& point, const Limits& limits);

  [[nodiscard]] const std::vector<aio::DiskDescription>& disks() const { return files_->disks(); }
  [[nodiscard]] std::uint64_t bytes() const { return files_->bytes(); }
  [[nodiscard]] const TargetFiles& files() const { return *files_; }

 private:
  std::vector<std::filesystem::path> directories_;
  const Console& console_;
  LiveLine line_;
  Logger engine_log_;  // of what is worth a warning: the engine itself is in the result
  std::string interruption_;
  std::optional<TargetFiles> files_;
};

/// 2 GiB, or a quarter of what is free where that is less; a multiple of 1 MiB for each directory.
[[nodiscard]] std::uint64_t default_bytes(const std::vector<aio::DiskDescription>& disks);

}  // namespace strata::bench
