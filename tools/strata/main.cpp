#include <c10/util/Exception.h>
#include <torch/version.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <exception>
#include <iostream>

#include "arithmetic_speed.h"
#include "doctor.h"
#include "doctor_options.h"
#include "export_checkpoint.h"
#include "export_options.h"
#include "finetune.h"
#include "finetune_options.h"
#include "generate.h"
#include "generate_options.h"
#include "inspect.h"
#include "interruption.h"
#include "merge_adapter.h"
#include "plan.h"
#include "process.h"
#include "report.h"
#include "report_options.h"
#include "run_ranks.h"
#include "strata/base/log.h"

namespace {

using strata::tool::ExitCode;

int run(int argc, char** argv) {
  CLI::App app(
      "Strata trains models that do not fit, by keeping their state in the tiers that "
      "have room.",
      "strata");
  app.set_version_flag("--version", "strata " STRATA_VERSION);
  app.require_subcommand(1);
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return std::string("strata: ") + error.what() + "; see strata --help\n";
  });
  strata::tool::FinetuneOptions options;
  strata::tool::add_finetune_command(app, options);
  strata::tool::GenerateOptions generate_options;
  const CLI::App* const generate = strata::tool::add_generate_command(app, generate_options);
  strata::tool::ReportOptions report_options;
  const CLI::App* report = strata::tool::add_report_command(app, report_options);
  strata::tool::PlanOptions plan_options;
  const CLI::App* const plan = strata::tool::add_plan_command(app, plan_options);
  strata::tool::InspectOptions inspect_options;
  const CLI::App* const inspect = strata::tool::add_inspect_command(app, inspect_options);
  strata::tool::ExportOptions export_options;
  const CLI::App* const exporting = strata::tool::add_export_command(app, export_options);
  strata::tool::DoctorOptions doctor_options;
  const CLI::App* const doctor = strata::tool::add_doctor_command(app, doctor_options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return static_cast<int>(code == 0 ? ExitCode::kDone : ExitCode::kUsage);
  }
  (void)std::signal(SIGPIPE, SIG_IGN);  // the reader of the lines may go; the run goes on
  if (report->parsed()) {
    strata::tool::report(report_options, std::cout);
    return static_cast<int>(ExitCode::kDone);
  }
  if (inspect->parsed()) {
    strata::tool::inspect(inspect_options, std::cout, strata::tool::Interruption());
    return static_cast<int>(ExitCode::kDone);
  }
  if (exporting->parsed()) {
    require_complete(export_options);
    const strata::tool::Interruption interruption;
    if (export_options.merge) {
      strata::tool::merge_adapter(export_options, std::cout, interruption);
    } else {
      strata::tool::export_checkpoint(export_options, std::cout, interruption);
    }
    return static_cast<int>(ExitCode::kDone);
  }
  if (doctor->parsed()) {
    const strata::tool::BuildFacts build{.libtorch = TORCH_VERSION, .gloo = STRATA_HAS_GLOO};
    return static_cast<int>(strata::tool::doctor(doctor_options, build, std::cout));
  }
  strata::Logger log(std::cerr);
  if (plan->parsed()) {
    return static_cast<int>(strata::tool::plan(
        plan_options, {.arithmetic = strata::tool::measure_arithmetic}, std::cout, log));
  }
  if (generate->parsed()) {
    strata::tool::generate(generate_options, std::cout, log);
    return static_cast<int>(ExitCode::kDone);
  }
  strata::tool::finetune(options, std::cout, isatty(STDOUT_FILENO) == 1, log);
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace

int main(int argc, char** argv) {
  strata::tool::prepare_process();
  try {
    return run(argc, argv);
  } catch (const c10::Error& error) {  // LibTorch's, whose what() is mostly a stack trace
    std::cerr << "strata: " << strata::tool::rank_prefix() << error.what_without_backtrace()
              << std::endl;
    return static_cast<int>(ExitCode::kFailed);
  } catch (const std::exception& error) {
    std::cerr << "strata: " << strata::tool::rank_prefix() << error.what() << std::endl;
    return static_cast<int>(strata::tool::exit_code_of(error));
  }
}
