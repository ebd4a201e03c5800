#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "point.h"
#include "strata/aio/disk.h"
#include "strata/aio/io_file.h"

namespace strata::nvme_bench {

/// The scratch files that are measured, one in each directory: allocated in full, and written once
/// with bytes that neither compress nor deduplicate, so that reads reach the medium. Their names
/// are gone when the constructor returns: nothing is left behind however the process ends.
class TargetFiles {
 public:
  /// Called at least every 100 ms while the files are written; may throw to give up.
  using OnProgress = std::function<void(std::uint64_t written, std::uint64_t total)>;

  /// Files of `bytes` in all, in equal parts. Throws IoError (a directory that is missing or
  /// read-only, a full disk with what is free), DeadlineExceeded (a request that was not answered
  /// within `timeout`), ConfigError (no directory).
  TargetFiles(const std::vector<std::filesystem::path>& directories, std::uint64_t bytes,
              bool direct, const OnProgress& on_progress,
              std::chrono::nanoseconds timeout = kUsualTimeout);

  [[nodiscard]] const std::vector<aio::IoFile>& files() const noexcept { return files_; }
  [[nodiscard]] const std::vector<aio::DiskDescription>& disks() const noexcept { return disks_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  /// The seed that a file was filled with: `fill_random`, the position being the offset.
  [[nodiscard]] std::uint64_t fill_seed(std::size_t file) const noexcept;

 private:
  std::vector<aio::IoFile> files_;
  std::vector<aio::DiskDescription> disks_;
  std::uint64_t bytes_ = 0;
  std::uint64_t seed_ = 0;  // new each time: disks that deduplicate keep nothing of before
};

}  // namespace strata::nvme_bench
