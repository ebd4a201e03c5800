#include <unistd.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <iostream>
#include <vector>

#include "command.h"
#include "process.h"
#include "strata/base/error.h"

namespace {

using strata::nvme_bench::Command;
using strata::tool::ExitCode;

/// Refuses options before the name of a command: they belong to none.
void require_nothing_before(const CLI::App& app, const CLI::App& command) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->count() > 0) {
      throw strata::ConfigError(option->get_name() + " stands before \"" + command.get_name() +
                                "\"; write it behind");
    }
  }
}

ExitCode run(int argc, char** argv, const strata::tool::Interruption& interruption) {
  CLI::App app("Tells what disks give to a program that trains from them.", "ds_nvme_bench");
  app.set_version_flag("--version", "ds_nvme_bench " STRATA_VERSION);
  app.require_subcommand(0, 1);
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return std::string("ds_nvme_bench: ") + error.what() + "; see ds_nvme_bench --help\n";
  });
  const std::vector<Command> commands{strata::nvme_bench::add_run_command(app),
                                      strata::nvme_bench::add_tune_command(app),
                                      strata::nvme_bench::add_plan_command(app)};
  const Command quick = strata::nvme_bench::add_quick_command(app);  // when no other is named
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? ExitCode::kDone : ExitCode::kUsage;
  }

  strata::Logger log(std::cerr);
  const strata::nvme_bench::Console console{.out = std::cout,
                                            .err = std::cerr,
                                            .err_is_terminal = isatty(STDERR_FILENO) == 1,
                                            .log = log,
                                            .interruption = interruption};
  for (const Command& command : commands) {
    if (!command.parser->parsed()) continue;
    require_nothing_before(app, *command.parser);
    return command.execute(console);
  }
  return quick.execute(console);
}

}  // namespace

int main(int argc, char** argv) {
  strata::tool::prepare_process();
  try {
    const strata::tool::Interruption interruption;  // until the result is written
    const ExitCode code = run(argc, argv, interruption);
    if (!std::cout.flush()) throw strata::IoError("the result could not be written to stdout", 0);
    interruption.check();  // else a signal that has come meanwhile would end the process now
    return static_cast<int>(code);
  } catch (const std::exception& error) {
    std::cerr << "ds_nvme_bench: " << error.what() << std::endl;
    return static_cast<int>(strata::tool::exit_code_of(error));
  }
}
