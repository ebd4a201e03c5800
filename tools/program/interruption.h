#pragma once

#include <csignal>

#include "strata/base/error.h"

namespace strata::tool {

/// Thrown when the user ended the run.
class Interrupted : public Error {
 public:
  using Error::Error;
};

/// Turns SIGINT, SIGTERM and SIGHUP (unless that is ignored, as under nohup) into an exception at a
/// place of our choosing, so that a run that is ended cleans up after itself. Make it before any
/// thread is started: threads inherit what it does. Ctrl-\ (SIGQUIT) still ends the process at
/// once.
class Interruption {
 public:
  Interruption();
  ~Interruption();
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;

  /// Throws Interrupted when one of the signals has come.
  void check() const;

  /// For its length the first signal is noted alone, so that what is under way can be brought to a
  /// good end; the second one is thrown by `check`.
  class Patience {
   public:
    explicit Patience(Interruption& interruption) : interruption_(interruption) {
      interruption_.is_patient_ = true;
    }
    ~Patience() { interruption_.is_patient_ = false; }
    Patience(const Patience&) = delete;
    Patience& operator=(const Patience&) = delete;

   private:
    Interruption& interruption_;
  };
  /// The name of the signal that was noted; null while none was. Looks for one.
  [[nodiscard]] const char* noted() const;

 private:
  sigset_t signals_{};
  sigset_t previous_mask_{};
  bool is_patient_ = false;
  mutable int noted_ = 0;  // a signal; `check` is called from everywhere
};

}  // namespace strata::tool
