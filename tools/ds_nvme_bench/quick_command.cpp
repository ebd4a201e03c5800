#include "command.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "options.h"
#include "output_file.h"
#include "overview.h"
#include "report_html.h"
#include "session.h"
#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::nvme_bench {
namespace {

constexpr const char* kQuickFooter =
    R"(Without a command: sequential and random reads and writes with a few settings in less than a minute,
and what that means for a model. Examples:
  ds_nvme_bench /mnt/nvme
  ds_nvme_bench /mnt/a /mnt/b --format=json --output=disks.json
  ds_nvme_bench run /mnt/nvme --rw=randread --bs=4k --iodepth=64

Exit codes: 0 done; 1 a failed request or system call; 2 a command line that cannot be used;
130 interrupted, with the results so far.)";

// 15 trials and 6 measurements take 33 seconds, and writing the files some more.
constexpr std::chrono::seconds kRuntime{3};
constexpr int kTrialsPerRuntime = 4;

struct QuickSetting {
  std::uint64_t block_bytes;
  std::uint32_t depth;
  std::uint32_t threads;
};

// The settings are few and far apart: if a disk wants another, the gain is in the last percents.
constexpr QuickSetting kSettings[] = {
    {1_MiB, 8, 1}, {1_MiB, 32, 1}, {1_MiB, 16, 2}, {256_KiB, 64, 1}, {4_MiB, 16, 1}};

Point point_with(Workload workload, const QuickSetting& setting) {
  return {.workload = workload,
          .block_bytes = setting.block_bytes,
          .depth = setting.depth,
          .threads = setting.threads};
}

/// Measures one thing after the other, until a signal comes.
class Quick {
 public:
  Quick(Session& session, const Limits& limits)
      : session_(session),
        limits_(limits),
        trial_{.runtime = limits.runtime / kTrialsPerRuntime, .ramp = limits.ramp / 2} {}

  void measure(const std::string& name, const Point& point) {
    if (session_.is_over()) return;
    reports_.push_back({name, session_.report(point, limits_)});
  }

  /// Measures with the settings that give most.
  void measure_best(const std::string& name, Workload workload) {
    Point best = point_with(workload, kSettings[1]);
    double most = 0;
    for (const QuickSetting& setting : kSettings) {
      const Point point = point_with(workload, setting);
      if (session_.is_over() || !fits(point)) continue;
      trials_.push_back(session_.measure(point, trial_));
      const double rate = trials_.back().gigabytes_per_second();
      if (rate <= most) continue;
      most = rate;
      best = point;
    }
    measure(name, best);
  }

  [[nodiscard]] const std::vector<NamedReport>& reports() const { return reports_; }
  /// The trials that the settings were chosen from.
  [[nodiscard]] const std::vector<PointResult>& trials() const { return trials_; }

 private:
  [[nodiscard]] bool fits(const Point& point) const {
    const auto& files = session_.files().files();
    const std::uint64_t part = files.front().size() / point.threads / point.block_bytes;
    return part * files.size() >= point.depth;
  }

  Session& session_;
  const Limits limits_;
  const Limits trial_;
  std::vector<NamedReport> reports_;
  std::vector<PointResult> trials_;
};

void write_for_person(std::ostream& out, const std::vector<NamedReport>& reports, bool complete) {
  write_overview(out, reports);
  if (!complete) return;
  out << '\n';
  write_model_table(out, reports.back().report.result);
  out << "\nbest for a step: " << run_command_of(reports.back().report) << '\n';
}

struct QuickOptions {
  TargetOptions target;
  Limits limits{.runtime = kRuntime};
  std::optional<std::filesystem::path> report;
};

tool::ExitCode quick(const QuickOptions& quick, const Console& console) {
  const TargetOptions& options = quick.target;
  if (options.directories.empty()) {
    throw ConfigError("name a directory on each disk, or a command; see ds_nvme_bench --help");
  }
  std::optional<tool::OutputFile> output;
  std::optional<tool::OutputFile> page;
  if (options.output) output.emplace(*options.output);
  if (quick.report) page.emplace(*quick.report);

  const Point random_read{.workload = Workload::kRandRead, .block_bytes = 4_KiB, .depth = 1};
  Session session(options, {point_with(Workload::kTrainStep, kSettings[1]), random_read}, console);
  Quick measurements(session, quick.limits);
  measurements.measure_best("sequential read", Workload::kRead);
  measurements.measure_best("sequential write", Workload::kWrite);
  Point random_read_deep = random_read;
  random_read_deep.depth = 64;
  measurements.measure("4 KiB random read", random_read);
  measurements.measure("4 KiB random read, deep", random_read_deep);
  measurements.measure_best("read and write at once", Workload::kReadWrite);
  if (!measurements.reports().empty()) {
    // A step does both: what is best for both is best for it.
    Point step = measurements.reports().back().report.result.point;
    step.workload = Workload::kTrainStep;
    measurements.measure("training step", step);
  }

  const bool complete = !session.is_over();
  std::ostream& out = output ? output->stream() : console.out;
  if (options.format == Format::kTable) {
    write_for_person(out, measurements.reports(), complete);
  } else {
    std::vector<Report> reports;
    for (const NamedReport& named : measurements.reports()) reports.push_back(named.report);
    write_reports(out, reports, options.format);
  }
  if (output) output->publish();
  if (page && !measurements.reports().empty()) {
    page->stream() << render_html(to_html_report(measurements.reports(), measurements.trials()));
    page->publish();
  }
  session.throw_if_over();
  for (const NamedReport& named : measurements.reports()) {
    const std::string& error = named.report.result.first_error;
    if (!error.empty()) throw IoError("requests failed; the first one: " + error, 0);
  }
  return tool::ExitCode::kDone;
}

}  // namespace

Command add_quick_command(CLI::App& app) {
  const auto options = std::make_shared<QuickOptions>();
  add_target_options(app, options->target);
  add_report_option(app, options->report);
  add_limit_options(app, options->limits);
  app.footer(kQuickFooter);
  return {.parser = &app,
          .execute = [options](const Console& console) { return quick(*options, console); }};
}

}  // namespace strata::nvme_bench
