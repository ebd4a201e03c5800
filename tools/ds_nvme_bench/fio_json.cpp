#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "number_text.h"
#include "report.h"

namespace strata::nvme_bench {
namespace {

using OrderedJson = nlohmann::ordered_json;
using std::chrono::duration;
using std::chrono::duration_cast;
using std::chrono::milliseconds;

/// Mean and spread of a series, in fio's fields.
struct Spread {
  double min = 0, max = 0, mean = 0, stddev = 0;
  std::size_t samples = 0;
};

Spread spread_of(const std::vector<double>& values) {
  if (values.empty()) return {};
  Spread spread{.min = *std::min_element(values.begin(), values.end()),
                .max = *std::max_element(values.begin(), values.end()),
                .samples = values.size()};
  for (const double value : values) spread.mean += value / static_cast<double>(values.size());
  if (values.size() < 2) return spread;
  double squares = 0;
  for (const double value : values) squares += (value - spread.mean) * (value - spread.mean);
  spread.stddev = std::sqrt(squares / static_cast<double>(values.size() - 1));
  return spread;
}

OrderedJson latency_json(const LatencyHistogram& latency) {
  return {{"min", latency.min().count()},
          {"max", latency.max().count()},
          {"mean", latency.mean_ns()},
          {"stddev", latency.stddev_ns()},
          {"N", latency.count()}};
}

OrderedJson completion_json(const LatencyHistogram& latency) {
  OrderedJson json = latency_json(latency);
  if (latency.count() == 0) return json;
  // Percentiles: fio's list and ours.
  for (const double percent : {1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 90.0,
                               95.0, 99.0, 99.5, 99.9, 99.95, 99.99}) {
    json["percentile"][fixed(percent, 6)] = latency.percentile(percent).count();
  }
  return json;
}

OrderedJson direction_json(const DirectionResult& direction, const std::vector<Window>& windows,
                           std::uint64_t Window::*bytes, const PointResult& result) {
  const double bytes_per_second = direction.gigabytes_per_second() * 1e9;
  const double all =
      (result.read.gigabytes_per_second() + result.write.gigabytes_per_second()) * 1e9;
  std::vector<double> rates;
  std::vector<double> iops;
  for (const Window& window : windows) {
    if (direction.requests == 0 || window.seconds <= 0) continue;
    const double rate = static_cast<double>(window.*bytes) / window.seconds;
    rates.push_back(rate / 1024);
    iops.push_back(rate / static_cast<double>(result.point.block_bytes));
  }
  const Spread bw = spread_of(rates);
  const Spread ios = spread_of(iops);
  return {{"io_bytes", direction.bytes},
          {"io_kbytes", direction.bytes >> 10},
          {"bw_bytes", static_cast<std::uint64_t>(bytes_per_second)},
          {"bw", static_cast<std::uint64_t>(bytes_per_second / 1024)},
          {"iops", direction.iops()},
          {"runtime", static_cast<std::uint64_t>(std::llround(direction.seconds * 1e3))},
          {"total_ios", direction.requests},
          {"short_ios", direction.short_transfers},
          {"drop_ios", 0},
          {"slat_ns", latency_json({})},
          {"clat_ns", completion_json(direction.latency)},
          {"lat_ns", latency_json(direction.latency)},
          {"bw_min", static_cast<std::uint64_t>(bw.min)},
          {"bw_max", static_cast<std::uint64_t>(bw.max)},
          {"bw_agg", all > 0 ? 100 * bytes_per_second / all : 0},
          {"bw_mean", bw.mean},
          {"bw_dev", bw.stddev},
          {"bw_samples", bw.samples},
          {"iops_min", static_cast<std::uint64_t>(ios.min)},
          {"iops_max", static_cast<std::uint64_t>(ios.max)},
          {"iops_mean", ios.mean},
          {"iops_stddev", ios.stddev},
          {"iops_samples", ios.samples}};
}

OrderedJson options_json(const Report& report) {
  const Point& point = report.result.point;
  std::string directories;
  for (const auto& directory : report.directories) {
    directories += (directories.empty() ? "" : ":") + directory.string();
  }
  return {{"name", name_of(point.workload)},
          {"directory", directories},
          {"rw", name_of(point.workload)},
          {"bs", fio_bytes(point.block_bytes)},
          {"iodepth", std::to_string(point.depth)},
          {"numjobs", std::to_string(point.threads)},
          {"ioengine", name_of(point.engine)},
          {"direct", point.direct ? "1" : "0"},
          {"size", fio_bytes(report.bytes)},
          {"runtime", compact(duration<double>(report.limits.runtime).count())},
          {"ramp_time", compact(duration<double>(report.limits.ramp).count())}};
}

OrderedJson disk_json(const aio::DiskDescription& disk) {
  OrderedJson json{{"directory", disk.directory.string()},
                   {"file_system", disk.file_system},
                   {"device", disk.device},
                   {"model", disk.model},
                   {"pci_address", disk.pci_address},
                   {"total_bytes", disk.total_bytes},
                   {"free_bytes", disk.free_bytes},
                   {"block_bytes", disk.block_bytes}};
  json["numa_node"] = disk.numa_node ? OrderedJson(*disk.numa_node) : OrderedJson();
  json["rotational"] = disk.rotational ? OrderedJson(*disk.rotational) : OrderedJson();
  return json;
}

OrderedJson strata_json(const Report& report) {
  const PointResult& result = report.result;
  OrderedJson json{{"workload", name_of(result.point.workload)},
                   {"engine", result.engine},
                   {"block_bytes", result.point.block_bytes},
                   {"depth", result.point.depth},
                   {"threads", result.point.threads},
                   {"direct", result.point.direct},
                   {"huge_pages", result.point.huge_pages},
                   {"prepare", result.point.prepare},
                   {"verify", result.point.verify},
                   {"file_bytes", report.bytes},
                   {"seconds", result.seconds},
                   {"gigabytes_per_second", result.gigabytes_per_second()},
                   {"user_cpu_seconds", result.user_cpu_seconds},
                   {"system_cpu_seconds", result.system_cpu_seconds},
                   {"cpu_seconds_per_gigabyte", result.cpu_seconds_per_gigabyte()},
                   {"read_errors", result.read.errors},
                   {"write_errors", result.write.errors},
                   {"first_error", result.first_error},
                   {"fio_command", fio_command(report)},
                   {"notes", report.notes}};
  json["disks"] = OrderedJson::array();
  for (const aio::DiskDescription& disk : report.disks) json["disks"].push_back(disk_json(disk));
  json["windows"] = OrderedJson::array();
  for (const Window& window : result.windows) {
    json["windows"].push_back({{"seconds", window.seconds},
                               {"bytes_read", window.bytes_read},
                               {"bytes_written", window.bytes_written}});
  }
  return json;
}

/// `group`: jobs that ran one after the other are of different groups.
OrderedJson job_json(const Report& report, std::size_t group) {
  const PointResult& result = report.result;
  const std::uint64_t errors = result.read.errors + result.write.errors;
  const auto share = [&](double cpu) {
    return result.seconds > 0 ? 100 * cpu / result.seconds : 0;
  };
  return {{"jobname", name_of(result.point.workload)},
          {"groupid", group},
          {"error", errors > 0 ? EIO : 0},
          {"eta", 0},
          {"elapsed", static_cast<std::uint64_t>(std::ceil(result.seconds))},
          {"job options", options_json(report)},
          {"read", direction_json(result.read, result.windows, &Window::bytes_read, result)},
          {"write", direction_json(result.write, result.windows, &Window::bytes_written, result)},
          {"trim", direction_json({}, {}, &Window::bytes_read, result)},
          {"job_runtime", static_cast<std::uint64_t>(std::llround(result.seconds * 1e3))},
          {"usr_cpu", share(result.user_cpu_seconds)},
          {"sys_cpu", share(result.system_cpu_seconds)},
          {"strata", strata_json(report)}};
}

/// The sums over the reports, name by name.
OrderedJson disk_util_json(std::span<const Report> reports) {
  OrderedJson list = OrderedJson::array();
  double seconds = 0;
  for (const Report& report : reports) {
    seconds += report.result.seconds + duration<double>(report.limits.ramp).count();
  }
  for (const DiskUse& named : reports.front().disk_use) {
    DiskUse sum{.name = named.name};
    for (const Report& report : reports) {
      for (const DiskUse& use : report.disk_use) {
        if (use.name == sum.name) sum = added(sum, use);
      }
    }
    const double busy = static_cast<double>(sum.busy_ticks) / 1e3;
    list.push_back({{"name", sum.name},
                    {"read_ios", sum.read_ios},
                    {"write_ios", sum.write_ios},
                    {"read_merges", sum.read_merges},
                    {"write_merges", sum.write_merges},
                    {"read_ticks", sum.read_ticks},
                    {"write_ticks", sum.write_ticks},
                    {"in_queue", sum.in_queue},
                    {"util", seconds > 0 ? std::min(100.0, 100 * busy / seconds) : 0}});
  }
  return list;
}

std::string date_text(std::time_t time) {
  std::array<char, 64> text{};
  std::tm local{};
  ::localtime_r(&time, &local);
  std::strftime(text.data(), text.size(), "%a %b %e %H:%M:%S %Y", &local);
  return text.data();
}

}  // namespace

std::string to_json(std::span<const Report> reports, int indent) {
  if (reports.empty()) return "{}";
  const auto time = reports.front().time;
  const auto since_epoch = time.time_since_epoch();
  OrderedJson json{{"ds_nvme_bench version", STRATA_VERSION},
                   {"timestamp", duration_cast<std::chrono::seconds>(since_epoch).count()},
                   {"timestamp_ms", duration_cast<milliseconds>(since_epoch).count()},
                   {"time", date_text(std::chrono::system_clock::to_time_t(time))},
                   {"global options", OrderedJson::object()}};
  json["jobs"] = OrderedJson::array();
  for (const Report& report : reports) {
    const std::size_t group = json["jobs"].size();
    json["jobs"].push_back(job_json(report, group));
  }
  json["disk_util"] = disk_util_json(reports);
  return json.dump(indent, ' ', false, OrderedJson::error_handler_t::replace);
}

}  // namespace strata::nvme_bench
