#include "session.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <utility>

#include "number_text.h"
#include "runner.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::nvme_bench {
namespace {

constexpr std::uint64_t kDefaultBytes = 2_GiB;
constexpr std::uint64_t kFreePart = 4;       // a quarter of it
constexpr std::chrono::seconds kSilence{5};  // is worth a warning

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

/// Memory for buffers, with the huge pages that are set aside; 0: not known.
std::uint64_t available_memory() {
  std::map<std::string, std::uint64_t> values;
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    std::uint64_t value = 0;
    if (words >> name >> value) values[name] = value;
  }
  return (values["MemAvailable:"] + values["HugePages_Free:"] * values["Hugepagesize:"]) * 1_KiB;
}

/// Buffers that memory has no room for would end this program, or another one.
void check_buffers(const Point& point) {
  const auto wanted = static_cast<double>(point.block_bytes) * point.depth * point.threads;
  const std::uint64_t available = available_memory();
  if (available == 0 || wanted <= static_cast<double>(available)) return;
  throw ConfigError("the buffers (--bs times --iodepth times --threads) take " +
                    fixed(wanted / 1_GiB, 1) + " GiB, and " + format_bytes(available) +
                    " of memory are available");
}

/// Tries the point's alignment and engine in the directories, before a large file is written.
void check_point(const Point& point, std::uint64_t bytes,
                 const std::vector<std::filesystem::path>& directories, Logger& log) {
  check(point);
  check_fits(point, bytes / directories.size(), directories.size());
  check_buffers(point);
  for (const auto& directory : directories) {
    const std::uint32_t alignment = aio::IoFile::create_scratch(directory).alignment();
    if (point.block_bytes % alignment != 0) {
      throw ConfigError("a block (--bs) of " + std::to_string(point.block_bytes) +
                        " bytes does not suit " + directory.string() +
                        ", which takes multiples of " + std::to_string(alignment));
    }
    check_engine(point, directory, log);
  }
}

}  // namespace

std::uint64_t default_bytes(const std::vector<aio::DiskDescription>& disks) {
  std::uint64_t bytes = kDefaultBytes / disks.size();
  const std::vector<std::size_t> neighbours = aio::paths_on_the_disk_of(disks);
  for (std::size_t i = 0; i < disks.size(); ++i) {
    if (disks[i].total_bytes == 0) continue;
    bytes = std::min(bytes, disks[i].free_bytes / kFreePart / neighbours[i]);
  }
  return bytes / 1_MiB * 1_MiB * disks.size();
}

Session::Session(const TargetOptions& target, const std::vector<Point>& points,
                 const Console& console)
    : directories_(target.directories),
      timeout_(target.timeout),
      console_(console),
      line_(console.err, console.err_is_terminal) {
  check_directories(directories_);
  std::vector<aio::DiskDescription> disks;
  for (const auto& directory : directories_) disks.push_back(aio::describe_disk(directory));
  std::optional<std::uint64_t> bytes = target.bytes;
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
  for (const Point& point : points) check_point(point, *bytes, directories_, engine_log_);
  const bool direct =
      std::all_of(points.begin(), points.end(), [](const Point& point) { return point.direct; });
  heard_ = Clock::now();
  const auto on_progress = [this, last = std::uint64_t{0}](std::uint64_t written,
                                                           std::uint64_t total) mutable {
    console_.interruption.check();
    line_.filling(written, total);
    note_silence(written > last);
    last = written;
  };
  files_.emplace(directories_, *bytes, direct, on_progress, timeout_);
  line_.clear();
}

PointResult Session::measure(const Point& point, const Limits& limits) {
  line_.begin(std::string(name_of(point.workload)) + ' ' + format_bytes(point.block_bytes),
              std::chrono::duration<double>(limits.ramp + limits.runtime).count(),
              point.block_bytes);
  heard_ = Clock::now() + limits.ramp;  // during which nothing is counted
  silent_ = false;
  const auto on_window = [&](const Window& window) {
    line_.add(window);
    note_silence(window.bytes_read + window.bytes_written > 0);
    try {
      console_.interruption.check();
    } catch (const tool::Interrupted& signal) {
      interruption_ = signal.what();
    }
    return interruption_.empty();
  };
  Limits with_timeout = limits;
  with_timeout.timeout = timeout_;
  PointResult result = run_point(point, with_timeout, *files_, engine_log_, on_window);
  line_.clear();
  unanswered_ = result.unanswered;
  return result;
}

void Session::note_silence(bool moved) {
  const Clock::time_point now = Clock::now();
  if (moved) heard_ = now;
  if (silent_ || now - heard_ < kSilence || timeout_ <= kSilence) return;
  silent_ = true;
  const auto seconds = [](auto time) {
    return compact(std::chrono::duration<double>(time).count()) + " s";
  };
  line_.clear();
  console_.log.warning("no answer from the disk for " + seconds(kSilence) +
                       "; it is given up after " + seconds(timeout_) +
                       " (--timeout); the kernel's log (dmesg) may say why");
}

void Session::throw_if_over() const {
  if (!interruption_.empty()) throw tool::Interrupted(interruption_);
  if (!unanswered_.empty()) throw DeadlineExceeded(unanswered_, ETIMEDOUT);
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

}  // namespace strata::nvme_bench
