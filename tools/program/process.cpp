#include "process.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <initializer_list>

#include "interruption.h"
#include "strata/base/error.h"

namespace strata::tool {

void prepare_process() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
    (void)!open("/dev/null", O_RDWR);  // the lowest number that is free
  }
  (void)std::signal(SIGXFSZ, SIG_IGN);
}

ExitCode exit_code_of(const std::exception& error) {
  if (dynamic_cast<const ConfigError*>(&error) != nullptr) return ExitCode::kUsage;
  if (dynamic_cast<const BudgetError*>(&error) != nullptr) return ExitCode::kBudget;
  if (dynamic_cast<const Interrupted*>(&error) != nullptr) return ExitCode::kInterrupted;
  return ExitCode::kFailed;
}

}  // namespace strata::tool
