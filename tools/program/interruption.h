#pragma once

#include <csignal>

#include "strata/base/error.h"

namespace strata::tool {

/// Thrown when the user ended the run.
class Interrupted : public Error {
 public:
  using Error::Error;
};

/// Turns SIGINT and SIGTERM into an exception at a place of our choosing, so that a run that is
/// ended cleans up after itself. Make it before any thread is started: threads inherit what it
/// does. Ctrl-\ (SIGQUIT) still ends the process at once.
class Interruption {
 public:
  Interruption();
  ~Interruption();
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;

  /// Throws Interrupted when one of the signals has come.
  void check() const;

 private:
  sigset_t signals_{};
  sigset_t previous_mask_{};
};

}  // namespace strata::tool
