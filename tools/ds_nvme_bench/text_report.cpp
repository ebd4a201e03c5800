#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "disk_time.h"
#include "number_text.h"
#include "plural.h"
#include "report.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::nvme_bench {
namespace {

std::string padded(const std::string& text, std::size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}

template <class Row>
void for_each_direction(const PointResult& result, const Row& row) {
  if (has_reads(result.point.workload)) row("read", result.read);
  if (has_writes(result.point.workload)) row("write", result.write);
}

std::string headline(const Report& report) {
  const Point& point = report.result.point;
  std::string line = std::string(name_of(point.workload)) + ": blocks of " +
                     format_bytes(point.block_bytes) + ", depth " + std::to_string(point.depth) +
                     ", " + tool::counted(point.threads, "thread") + ", " +
                     (point.direct ? "direct" : "buffered");
  if (!point.huge_pages) line += ", small pages";
  if (point.verify) line += ", verified";
  return line + ", " + format_bytes(report.bytes) + ", " + fixed(report.result.seconds, 2) + " s";
}

/// Names of figures and, for a direction, their values, for csv and markdown.
struct Figure {
  std::string name;
  std::string value;
};

std::vector<Figure> figures_of(const Report& report, const std::string& direction_name,
                               const DirectionResult& direction) {
  const PointResult& result = report.result;
  const Point& point = result.point;
  std::string directories;
  for (const auto& directory : report.directories) {
    directories += (directories.empty() ? "" : ":") + directory.string();
  }
  std::vector<Figure> figures{
      {"directories", directories},
      {"workload", std::string(name_of(point.workload))},
      {"direction", direction_name},
      {"engine", result.engine},
      {"block_bytes", std::to_string(point.block_bytes)},
      {"depth", std::to_string(point.depth)},
      {"threads", std::to_string(point.threads)},
      {"direct", point.direct ? "1" : "0"},
      {"file_bytes", std::to_string(report.bytes)},
      {"seconds", fixed(result.seconds, 3)},
      {"gb_per_s", fixed(direction.gigabytes_per_second(), 4)},
      {"gib_per_s", fixed(direction.gigabytes_per_second() * 1e9 / (1 << 30), 4)},
      {"iops", fixed(direction.iops(), 1)},
      {"lat_min_ns", std::to_string(direction.latency.min().count())},
      {"lat_mean_ns", fixed(direction.latency.mean_ns(), 0)},
      {"lat_stddev_ns", fixed(direction.latency.stddev_ns(), 0)},
      {"lat_max_ns", std::to_string(direction.latency.max().count())}};
  for (const double percent : kPercentiles) {
    figures.push_back({"lat_p" + percent_text(percent) + "_ns",
                       std::to_string(direction.latency.percentile(percent).count())});
  }
  figures.push_back({"cpu_s_per_gb", fixed(result.cpu_seconds_per_gigabyte(), 5)});
  figures.push_back({"short_transfers", std::to_string(direction.short_transfers)});
  figures.push_back({"errors", std::to_string(direction.errors)});
  return figures;
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string field = "\"";
  for (const char c : text) field += c == '"' ? std::string("\"\"") : std::string(1, c);
  return field + "\"";
}

std::string markdown_field(const std::string& text) {
  std::string field;
  for (const char c : text) field += c == '|' ? std::string("\\|") : std::string(1, c);
  return field;
}

}  // namespace

std::string describe(const aio::DiskDescription& disk) {
  std::string text = disk.file_system.empty() ? "unknown file system" : disk.file_system;
  if (!disk.device.empty()) text += " on " + disk.device;
  if (!disk.model.empty()) text += " (" + disk.model + ")";
  return text;
}

void write_table(std::ostream& out, const Report& report) {
  const PointResult& result = report.result;
  out << headline(report) << '\n' << "engine: " << result.engine << '\n';
  for (const aio::DiskDescription& disk : report.disks) {
    out << "disk: " << disk.directory.string() << ", " << describe(disk) << '\n';
  }
  out << '\n' << "             GB/s     GiB/s        IOPS         bytes\n";
  for_each_direction(result, [&](const std::string& name, const DirectionResult& direction) {
    const double rate = direction.gigabytes_per_second();
    out << padded(name, 7) << padded(fixed(rate, 3), 10)
        << padded(fixed(rate * 1e9 / (1 << 30), 3), 10) << padded(fixed(direction.iops(), 0), 12)
        << padded(format_bytes(direction.bytes), 14) << '\n';
  });
  out << "\nlatency        min      mean    stddev       max\n";
  for_each_direction(result, [&](const std::string& name, const DirectionResult& direction) {
    const LatencyHistogram& latency = direction.latency;
    out << padded(name, 7);
    for (const double ns : {static_cast<double>(latency.min().count()), latency.mean_ns(),
                            latency.stddev_ns(), static_cast<double>(latency.max().count())}) {
      out << padded(latency_text(ns), 10);
    }
    out << '\n';
  });
  out << "\n       ";
  for (const double percent : kPercentiles) out << padded(percent_text(percent) + "%", 10);
  out << '\n';
  for_each_direction(result, [&](const std::string& name, const DirectionResult& direction) {
    out << padded(name, 7);
    for (const double percent : kPercentiles) {
      out << padded(
          latency_text(static_cast<double>(direction.latency.percentile(percent).count())), 10);
    }
    out << '\n';
  });
  const double gigabytes = static_cast<double>(result.read.bytes + result.write.bytes) / 1e9;
  if (gigabytes > 0) {
    out << "\ncpu: " << compact(result.cpu_seconds_per_gigabyte()) << " s per GB (user "
        << compact(result.user_cpu_seconds / gigabytes) << ", system "
        << compact(result.system_cpu_seconds / gigabytes) << ")\n";
  }
  out << "short transfers: " << result.read.short_transfers + result.write.short_transfers
      << ", errors: " << result.read.errors + result.write.errors << '\n';
  if (!result.first_error.empty()) out << "first error: " << result.first_error << '\n';
  const double step = seconds_of_train_step(result, 1e9);
  if (result.point.workload == Workload::kTrainStep && std::isfinite(step)) {
    out << "a training step that moves all state: " << compact(step)
        << " s per billion parameters\n";
  }
  for (const std::string& note : report.notes) out << "note: " << note << '\n';
  out << "fio: " << fio_command(report) << '\n';
}

void write_csv(std::ostream& out, std::span<const Report> reports) {
  bool named = false;
  for (const Report& report : reports) {
    for_each_direction(report.result,
                       [&](const std::string& name, const DirectionResult& direction) {
                         std::string names;
                         std::string values;
                         for (const Figure& figure : figures_of(report, name, direction)) {
                           names += (names.empty() ? "" : ",") + figure.name;
                           values += (values.empty() ? "" : ",") + csv_field(figure.value);
                         }
                         if (!named) out << names << '\n';
                         named = true;
                         out << values << '\n';
                       });
  }
}

void write_markdown(std::ostream& out, std::span<const Report> reports) {
  std::vector<std::vector<Figure>> columns;
  for (const Report& report : reports) {
    for_each_direction(report.result,
                       [&](const std::string& name, const DirectionResult& direction) {
                         columns.push_back(figures_of(report, name, direction));
                       });
  }
  if (columns.empty()) return;
  out << "| figure |";
  for (std::size_t i = 0; i < columns.size(); ++i) out << " value |";
  out << "\n|---|";
  for (std::size_t i = 0; i < columns.size(); ++i) out << "---|";
  out << '\n';
  for (std::size_t row = 0; row < columns.front().size(); ++row) {
    out << "| " << columns.front()[row].name << " |";
    for (const auto& column : columns) out << ' ' << markdown_field(column[row].value) << " |";
    out << '\n';
  }
}

void write_reports(std::ostream& out, std::span<const Report> reports, Format format) {
  switch (format) {
    case Format::kTable:
      for (const Report& report : reports) {
        if (&report != &reports.front()) out << '\n';
        write_table(out, report);
      }
      return;
    case Format::kJson: out << to_json(reports, 2) << '\n'; return;
    case Format::kJsonLines:
      for (const Report& report : reports) out << to_json({&report, 1}, -1) << '\n';
      return;
    case Format::kCsv: return write_csv(out, reports);
    case Format::kMarkdown: return write_markdown(out, reports);
  }
}

Format parse_format(std::string_view text) {
  if (text == "table") return Format::kTable;
  if (text == "json") return Format::kJson;
  if (text == "jsonl") return Format::kJsonLines;
  if (text == "csv") return Format::kCsv;
  if (text == "md") return Format::kMarkdown;
  throw ConfigError("\"" + std::string(text) +
                    "\" is not a format; use one of table, json, jsonl, csv, md");
}

}  // namespace strata::nvme_bench
