#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "disk_use.h"
#include "point.h"
#include "result.h"
#include "strata/aio/disk.h"

namespace strata::nvme_bench {

/// The percentiles that every format shows.
inline constexpr double kPercentiles[] = {50, 75, 90, 95, 99, 99.5, 99.9, 99.99};

/// The format of results.
enum class Format {
  kTable,      ///< for a person
  kJson,       ///< fio's fields
  kJsonLines,  ///< fio's fields, one line for each point
  kCsv,        ///< a line of names, then a line for each point
  kMarkdown,   ///< a table of kCsv's columns
};

/// Parses "table", "json", "jsonl", "csv", "md". Throws a ConfigError that lists them.
[[nodiscard]] Format parse_format(std::string_view text);

/// A measurement with all that explains it.
struct Report {
  PointResult result;
  Limits limits;
  std::vector<std::filesystem::path> directories;
  std::vector<aio::DiskDescription> disks;  ///< one for each directory
  std::uint64_t bytes = 0;                  ///< size of all files together
  std::vector<DiskUse> disk_use;            ///< use from beginning to end, ramp included
  std::vector<std::string> notes;           ///< facts that make the figures mean less
  std::chrono::system_clock::time_point time;
};

/// Facts that make the figures of such a measurement mean less than they seem to: the page cache,
/// the drive's own cache, a file system in memory. A line each.
[[nodiscard]] std::vector<std::string> notes_on(const Point& point, std::uint64_t bytes,
                                                const std::vector<aio::DiskDescription>& disks);

/// The fio command line that measures the same. trainstep, which fio lacks, becomes a mix of as
/// many reads; the threads engine becomes as many jobs of one request; fio writes its files itself.
[[nodiscard]] std::string fio_command(const Report& report);

/// Everything, in the fields and units of fio's --output-format=json, a job for each report; values
/// that fio has no field for stand under "strata" in the job. `indent` -1 for one line.
[[nodiscard]] std::string to_json(std::span<const Report> reports, int indent);

/// The table for a person.
void write_table(std::ostream& out, const Report& report);

/// One line for each direction that was used, under a line of names.
void write_csv(std::ostream& out, std::span<const Report> reports);
void write_markdown(std::ostream& out, std::span<const Report> reports);

/// The reports in any format.
void write_reports(std::ostream& out, std::span<const Report> reports, Format format);

/// A disk in words: "ext4 on nvme0n1 (Samsung SSD 990 PRO 2TB)", "tmpfs".
[[nodiscard]] std::string describe(const aio::DiskDescription& disk);

}  // namespace strata::nvme_bench
