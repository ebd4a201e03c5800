#include "aio/service_thread.h"

#include <pthread.h>

#include <csignal>
#include <system_error>
#include <utility>

#include "strata/base/error.h"

namespace strata::aio {
namespace {

/// Blocks every signal on the current thread for its own lifetime; threads inherit the mask.
class AllSignalsBlocked {
 public:
  AllSignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~AllSignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  AllSignalsBlocked(const AllSignalsBlocked&) = delete;
  AllSignalsBlocked& operator=(const AllSignalsBlocked&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

std::thread start_service_thread(const std::string& name, std::function<void()> body) {
  const AllSignalsBlocked blocked;
  try {
    std::thread thread(std::move(body));
    pthread_setname_np(thread.native_handle(), name.c_str());
    return thread;
  } catch (const std::system_error& error) {
    throw system_error("start the thread", name, error.code().value(),
                       "raise the limit on threads (ulimit -u)");
  }
}

}  // namespace strata::aio
