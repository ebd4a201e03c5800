#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <ostream>

#include "exit_code.h"
#include "interruption.h"
#include "strata/base/log.h"

namespace strata::bench {

/// What a command may use of the process. Results go to `out`, everything else to `err` and `log`.
struct Console {
  std::ostream& out;
  std::ostream& err;
  bool err_is_terminal;
  Logger& log;
  const tool::Interruption& interruption;
};

/// One command of the program: how it is written, and what it does. Each is made by a function
/// `add_xxx_command(CLI::App&)` in a file of its own; `execute` owns the options that were parsed.
struct Command {
  CLI::App* parser;
  std::function<tool::ExitCode(const Console&)> execute;
};

}  // namespace strata::bench
