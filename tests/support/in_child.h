#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <functional>

#include "strata/base/error.h"
#include "support/file_fault.h"

namespace strata::support {

/// How a child ended that was forked for `action` under `fault`: what that returned, 1 for an
/// IoError, 2 for another exception, 128 + the signal that killed it. The test has no threads: a
/// child of one that has may wait for locks of theirs.
inline int in_child(const FileFault& fault, const std::function<int()>& action) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    arm(fault);
    int result = 2;
    try {
      result = action();
    } catch (const IoError&) {
      result = 1;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
    std::fflush(nullptr);
    ::_exit(result);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace strata::support
