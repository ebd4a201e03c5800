#pragma once

#include <exception>

namespace strata::tool {

/// Prepares the process, first thing in `main`. Opens /dev/null in place of closed standard
/// streams, lest a file opened later take one and get what is written to it. Lets a write beyond
/// the limit of a file's size (RLIMIT_FSIZE) fail with EFBIG instead of ending the process.
void prepare_process();

/// The exit codes of Strata's programs. Documented in their `--help`.
enum class ExitCode : int {
  kDone = 0,
  kFailed = 1,        ///< a failed read, write or step; a malformed input file
  kUsage = 2,         ///< a command line or config that cannot be used
  kBudget = 3,        ///< a budget that is too small
  kInterrupted = 130  ///< SIGINT, SIGTERM or SIGHUP, as shells report it
};

/// The exit code that `error` stands for.
[[nodiscard]] ExitCode exit_code_of(const std::exception& error);

}  // namespace strata::tool
