#pragma once

#include <csignal>

namespace strata::zero3 {

/// Keeps signals of the program from the calling thread, for good. So a connection whose other end
/// is gone is an error of the write instead of SIGPIPE, which would end the process.
inline void take_no_signals() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

/// The same for SIGPIPE alone, in threads that are made as long as it lives.
class NoSigpipeInNewThreads {
 public:
  NoSigpipeInNewThreads() {
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &before_);
  }
  ~NoSigpipeInNewThreads() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  NoSigpipeInNewThreads(const NoSigpipeInNewThreads&) = delete;
  NoSigpipeInNewThreads& operator=(const NoSigpipeInNewThreads&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace strata::zero3
