#include "session.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "runner.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::bench {
namespace {

constexpr std::uint64_t kDefaultBytes = 2_GiB;
constexpr std::uint64_t kFreePart = 4;  // a quarter of it

void check_directories(const std::vector<std::filesystem::path>& directories) {
  if (directories.empty()) throw ConfigError("no directory to measure; name one on each disk");
  for (const auto& directory : directories) {
    std::error_code error;
    const auto status = std::filesystem::status(directory, error);
    if (!std::filesystem::exists(status)) {
      throw ConfigError(
          "the directory " + directory.string() + " does not exist" +
          (error && error != std::errc::no_such_file_or_directory ? ": " + error.message() : ""));
    }
    if (!std::filesystem::is_directory(status)) {
      throw ConfigError(directory.string() +
                        " is not a directory; name the directory where the disk is mounted");
    }
  }
}

/// What a file there will take, before a large one is written.
void check_point(const Point& point, std::uint64_t bytes,
                 const std::vector<std::filesystem::path>& directories) {
  check(point);
  check_fits(point, bytes / directories.size(), directories.size());
  for (const auto& directory : directories) {
    const std::uint32_t alignment = aio::IoFile::create_scratch(directory).alignment();
    if (point.block_bytes % alignment != 0) {
      throw ConfigError("a block (--bs) of " + std::to_string(point.block_bytes) +
                        " bytes does not suit " + directory.string() +
                        ", which takes multiples of " + std::to_string(alignment));
    }
  }
}

}  // namespace

std::uint64_t default_bytes(const std::vector<aio::DiskDescription>& disks) {
  std::uint64_t bytes = kDefaultBytes / disks.size();
  for (const aio::DiskDescription& disk : disks) {
    if (disk.total_bytes > 0) bytes = std::min(bytes, disk.free_bytes / kFreePart);
  }
  return bytes / 1_MiB * 1_MiB * disks.size();
}

Session::Session(std::vector<std::filesystem::path> directories, std::optional<std::uint64_t> bytes,
                 const std::vector<Point>& points, const Console& console)
    : directories_(std::move(directories)),
      console_(console),
      line_(console.err, console.err_is_terminal) {
  engine_log_.set_level(LogLevel::kWarning);
  check_directories(directories_);
  std::vector<aio::DiskDescription> disks;
  for (const auto& directory : directories_) disks.push_back(aio::describe_disk(directory));
  if (!bytes) {
    bytes = default_bytes(disks);
    if (*bytes == 0) {
      throw IoError(
          "there is no room to measure over: a quarter of what is free is less than "
          "1 MiB; free some space or name another directory",
          ENOSPC);
    }
    if (*bytes < kDefaultBytes / disks.size() * disks.size()) {
      console_.log.info("measuring over " + format_bytes(*bytes) +
                        ", a quarter of what is free; --size sets another size");
    }
  }
  for (const Point& point : points) check_point(point, *bytes, directories_);
  const bool direct =
      std::all_of(points.begin(), points.end(), [](const Point& point) { return point.direct; });
  files_.emplace(directories_, *bytes, direct, [&](std::uint64_t written, std::uint64_t total) {
    console_.interruption.check();
    line_.filling(written, total);
  });
  line_.clear();
}

PointResult Session::measure(const Point& point, const Limits& limits) {
  line_.begin(std::string(name_of(point.workload)) + ' ' + format_bytes(point.block_bytes),
              std::chrono::duration<double>(limits.ramp + limits.runtime).count(),
              point.block_bytes);
  const auto on_window = [&](const Window& window) {
    line_.add(window);
    try {
      console_.interruption.check();
    } catch (const tool::Interrupted& signal) {
      interruption_ = signal.what();
    }
    return interruption_.empty();
  };
  PointResult result = run_point(point, limits, *files_, engine_log_, on_window);
  line_.clear();
  return result;
}

Report Session::report(const Point& point, const Limits& limits) {
  std::vector<std::string> devices;
  for (const aio::DiskDescription& disk : disks()) devices.push_back(disk.device);
  const auto time = std::chrono::system_clock::now();
  const std::vector<DiskUse> before = read_disk_use(devices);
  PointResult result = measure(point, limits);
  return {.result = std::move(result),
          .limits = limits,
          .directories = directories_,
          .disks = disks(),
          .bytes = bytes(),
          .disk_use = difference(read_disk_use(devices), before),
          .notes = notes_on(point, bytes(), disks()),
          .time = time};
}

}  // namespace strata::bench
