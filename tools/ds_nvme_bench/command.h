#pragma once

#include <functional>
#include <ostream>

#include "interruption.h"
#include "process.h"
#include "strata/base/log.h"

namespace CLI {
class App;
}

namespace strata::nvme_bench {

/// The surroundings of a command. Results go to `out`, everything else to `err` and `log`.
struct Console {
  std::ostream& out;
  std::ostream& err;
  bool err_is_terminal;
  Logger& log;
  const tool::Interruption& interruption;
};

/// One command of the program: how it is written, and what it does; `execute` owns the options that
/// were parsed. Each is added to the command line by a function below, in a file of its own.
struct Command {
  CLI::App* parser;
  std::function<tool::ExitCode(const Console&)> execute;
};

/// `DIR...` with no command: finds in less than a minute what the disks give, with which settings,
/// and what that means for a model. Its options stand at the top of the command line.
[[nodiscard]] Command add_quick_command(CLI::App& app);

/// `run DIR...`: measures one point, as asked.
[[nodiscard]] Command add_run_command(CLI::App& app);

/// `tune DIR...`: searches the settings with which the disks do a training step's reads and writes
/// soonest, and writes them as the section "aio" of a config.
[[nodiscard]] Command add_tune_command(CLI::App& app);

/// `plan --params N`: works out what disks mean for a model: bytes, seconds of disk per step, the
/// tokens that hide them, and the days until the drives are worn out.
[[nodiscard]] Command add_plan_command(CLI::App& app);

}  // namespace strata::nvme_bench
