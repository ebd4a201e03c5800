#include "command.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "options.h"
#include "output_file.h"
#include "report_html.h"
#include "session.h"
#include "strata/base/error.h"

namespace strata::nvme_bench {
namespace {

constexpr const char* kRunFooter = R"(Examples:
  ds_nvme_bench run /mnt/nvme --rw=randread --bs=4k --iodepth=64
  ds_nvme_bench run /mnt/a /mnt/b --rw=trainstep --size=64GiB --runtime=60 --format=json

The files are scratch and have no name: nothing is left behind however the program ends.
Exit codes: 0 done; 1 a failed request or system call; 2 a command line that cannot be used;
130 interrupted, with the result so far.)";

struct RunOptions {
  TargetOptions target;
  Point point;
  Limits limits;
  std::optional<std::filesystem::path> report;
};

tool::ExitCode run(const RunOptions& options, const Console& console) {
  std::optional<tool::OutputFile> output;
  std::optional<tool::OutputFile> page;
  if (options.target.output) output.emplace(*options.target.output);
  if (options.report) page.emplace(*options.report);
  Session session(options.target, {options.point}, console);
  const Report report = session.report(options.point, options.limits);
  write_reports(output ? output->stream() : console.out, {&report, 1}, options.target.format);
  if (output) output->publish();
  if (page) {
    page->stream() << render_html(to_html_report(report));
    page->publish();
  }

  const PointResult& result = report.result;
  session.throw_if_over();
  if (const std::uint64_t errors = result.read.errors + result.write.errors; errors > 0) {
    throw IoError(std::to_string(errors) + " requests failed; the first one: " + result.first_error,
                  0);
  }
  return tool::ExitCode::kDone;
}

}  // namespace

Command add_run_command(CLI::App& app) {
  const auto options = std::make_shared<RunOptions>();
  CLI::App* command = app.add_subcommand("run", "Measures one workload with given settings.");
  command->footer(kRunFooter);
  add_target_options(*command, options->target);
  add_report_option(*command, options->report);
  add_point_options(*command, options->point);
  add_limit_options(*command, options->limits);
  return {.parser = command,
          .execute = [options](const Console& console) { return run(*options, console); }};
}

}  // namespace strata::nvme_bench
