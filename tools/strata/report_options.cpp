#include "report_options.h"

#include <CLI/CLI.hpp>

#include "option_checks.h"

namespace strata::tool {
namespace {

constexpr const char* kReportDescription =
    "Makes one page of a run: its losses, its speed, what every hop moved and how long training "
    "stood still for it. The page needs no network.";

constexpr const char* kReportFooter =
    R"(RUN is the directory that strata finetune --output named. Its
metrics.jsonl is read and, when it was traced (finetune --trace), its trace.json.gz.

Exit codes: 0 done; 1 a failed read or write, or damaged metrics; 2 a directory without a run.)";

}  // namespace

CLI::App* add_report_command(CLI::App& app, ReportOptions& options) {
  CLI::App* command = app.add_subcommand("report", kReportDescription);
  command->footer(kReportFooter);
  command->add_option("RUN", options.run, "Directory of the run")
      ->type_name("")
      ->required()
      ->check(path_name());
  command->add_option("--output", options.output, "The page [RUN/report.html]")
      ->type_name("FILE")
      ->check(path_name());
  return command;
}

}  // namespace strata::tool
