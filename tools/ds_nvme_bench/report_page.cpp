#include "report_html.h"

#include <algorithm>
#include <string>

#include "number_text.h"
#include "search_space.h"
#include "strata/base/units.h"

namespace strata::nvme_bench {
namespace {

std::string rate_text(const PointResult& result) {
  const std::string read = fixed(result.read.gigabytes_per_second(), 2);
  const std::string write = fixed(result.write.gigabytes_per_second(), 2);
  if (result.write.requests == 0) return read + " GB/s";
  if (result.read.requests == 0) return write + " GB/s";
  return read + " + " + write + " GB/s";
}

void add_latency(HtmlReport& page, const std::string& name, const DirectionResult& direction) {
  if (direction.requests == 0) return;
  const auto percentile = [&](double percent) {
    return latency_text(static_cast<double>(direction.latency.percentile(percent).count()));
  };
  page.figures.emplace_back(name + " latency, half of all", percentile(50));
  page.figures.emplace_back(name + " latency, 99 %", percentile(99));
}

void add_facts(HtmlReport& page, const Report& report) {
  for (const aio::DiskDescription& disk : report.disks) {
    page.facts.emplace_back("directory", disk.directory.string());
    page.facts.emplace_back("disk", describe(disk));
    page.facts.emplace_back("free", format_bytes(disk.free_bytes));
  }
  page.facts.emplace_back("files", format_bytes(report.bytes));
  page.facts.emplace_back("engine", report.result.engine);
  page.facts.emplace_back("program", "ds_nvme_bench " STRATA_VERSION);
}

void add_notes(HtmlReport& page, const Report& report) {
  const auto add = [&](const std::string& note) {
    if (note.empty() || std::find(page.notes.begin(), page.notes.end(), note) != page.notes.end()) {
      return;
    }
    page.notes.push_back(note);
  };
  for (const std::string& note : report.notes) add(note);
  add(report.result.first_error);
}

}  // namespace

HtmlReport to_html_report(const Report& report) {
  const PointResult& result = report.result;
  const Point& point = result.point;
  HtmlReport page;
  page.title = "What the disk gives";
  page.summary = std::string(name_of(point.workload)) + ", " +
                 describe({point.engine, point.block_bytes, point.depth, point.threads}) + ", " +
                 fixed(result.seconds, 1) + " s";
  page.figures.emplace_back("moved", rate_text(result));
  page.figures.emplace_back("requests a second",
                            fixed(result.read.iops() + result.write.iops(), 0));
  add_latency(page, "read", result.read);
  add_latency(page, "write", result.write);
  add_facts(page, report);
  page.facts.emplace_back("again", run_command_of(report));
  add_notes(page, report);
  page.time_line = result;
  page.points = {result};
  return page;
}

HtmlReport to_html_report(std::span<const NamedReport> reports,
                          std::span<const PointResult> trials) {
  HtmlReport page;
  page.title = "What the disk gives";
  page.summary = "Each measured with the settings that a trial of a few found best.";
  for (const auto& [name, report] : reports) {
    const PointResult& result = report.result;
    page.figures.emplace_back(name,
                              result.point.block_bytes < 64_KiB
                                  ? fixed(result.read.iops() + result.write.iops(), 0) + " IOPS"
                                  : rate_text(result));
    add_notes(page, report);
  }
  add_facts(page, reports.back().report);
  page.facts.emplace_back("again", run_command_of(reports.back().report));
  page.time_line = reports.back().report.result;
  page.points.assign(trials.begin(), trials.end());
  for (const NamedReport& named : reports) page.points.push_back(named.report.result);
  return page;
}

}  // namespace strata::nvme_bench
