#include "overview.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "disk_time.h"
#include "number_text.h"
#include "strata/base/units.h"

namespace strata::nvme_bench {
namespace {

constexpr double kBillionsOfParameters[] = {1, 7, 13, 70};

std::string left(const std::string& text, std::size_t width) {
  return text + std::string(width > text.size() ? width - text.size() : 0, ' ');
}

std::string right(const std::string& text, std::size_t width) {
  return std::string(width > text.size() ? width - text.size() : 0, ' ') + text;
}

std::string rate_of(const DirectionResult& direction) {
  return direction.requests > 0 ? fixed(direction.gigabytes_per_second(), 2) : "-";
}

std::string settings_of(const Point& point) {
  std::string text = format_bytes(point.block_bytes) + " x " + std::to_string(point.depth);
  if (point.threads > 1) text += ", " + std::to_string(point.threads) + " threads";
  return text;
}

std::string step_time(double seconds) {
  return seconds < 100 ? compact(seconds) + " s" : duration_text(seconds);
}

}  // namespace

void write_overview(std::ostream& out, std::span<const NamedReport> reports) {
  if (reports.empty()) return;
  const Report& first = reports.front().report;
  for (const aio::DiskDescription& disk : first.disks) {
    out << disk.directory.string() << ": " << describe(disk) << ", "
        << format_bytes(disk.free_bytes) << " free\n";
  }
  out << "measured over " << format_bytes(first.bytes) << " with " << first.result.engine << "\n\n";

  std::size_t width = 0;
  for (const NamedReport& named : reports) width = std::max(width, named.name.size());
  out << left("", width) << "  read    write           latency\n"
      << left("", width) << right("GB/s", 6) << right("GB/s", 9) << right("IOPS", 10)
      << right("50%", 10) << right("99%", 10) << right("cpu s/GB", 10) << "  settings\n";
  std::set<std::string> notes;
  for (const auto& [name, report] : reports) {
    const PointResult& result = report.result;
    LatencyHistogram latency = result.read.latency;
    latency.merge(result.write.latency);
    const auto percentile = [&](double percent) {
      return latency_text(static_cast<double>(latency.percentile(percent).count()));
    };
    out << left(name, width) << right(rate_of(result.read), 6) << right(rate_of(result.write), 9)
        << right(fixed(result.read.iops() + result.write.iops(), 0), 10)
        << right(percentile(50), 10) << right(percentile(99), 10)
        << right(compact(result.cpu_seconds_per_gigabyte()), 10) << "  "
        << settings_of(result.point) << '\n';
    notes.insert(report.notes.begin(), report.notes.end());
    if (!result.first_error.empty()) notes.insert(name + ": " + result.first_error);
  }
  if (!notes.empty()) out << '\n';
  for (const std::string& note : notes) out << "note: " << note << '\n';
}

void write_model_table(std::ostream& out, const PointResult& train_step) {
  const double of_a_billion = seconds_of_train_step(train_step, 1e9);
  if (!std::isfinite(of_a_billion)) return;
  out << "A training step that moves all state of a model (bf16, fp32 moments: " << kTrainBytesMoved
      << " bytes per parameter) takes\n"
      << right("parameters", 14) << right("on disk", 10) << right("a step", 10) << '\n';
  for (const double billions : kBillionsOfParameters) {
    out << right(fixed(billions, 0) + " billion", 14)
        << right(fixed(kTrainBytesAtRest * billions, 0) + " GB", 10)
        << right(step_time(of_a_billion * billions), 10) << '\n';
  }
}

std::string run_command_of(const Report& report) {
  const Point& point = report.result.point;
  std::string command = "ds_nvme_bench run";
  for (const auto& directory : report.directories) command += ' ' + directory.string();
  command += " --rw=" + std::string(name_of(point.workload)) +
             " --bs=" + fio_bytes(point.block_bytes) + " --iodepth=" + std::to_string(point.depth);
  if (point.threads > 1) command += " --threads=" + std::to_string(point.threads);
  return command;
}

}  // namespace strata::nvme_bench
