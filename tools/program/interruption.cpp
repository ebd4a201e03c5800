#include "interruption.h"

#include <ctime>

namespace strata::tool {
namespace {

// The signal that is waiting, taken off the queue; -1 when there is none.
int take_pending(const sigset_t& signals) {
  const timespec at_once{};
  return sigtimedwait(&signals, nullptr, &at_once);
}

}  // namespace

Interruption::Interruption() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals_, &previous_mask_);
}

Interruption::~Interruption() { pthread_sigmask(SIG_SETMASK, &previous_mask_, nullptr); }

void Interruption::check() const {
  const int signal = take_pending(signals_);
  if (signal > 0) {
    throw Interrupted(signal == SIGINT ? "interrupted (SIGINT)" : "ended (SIGTERM)");
  }
}

}  // namespace strata::tool
