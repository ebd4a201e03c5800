#include "interruption.h"

#include <ctime>
#include <string>

namespace strata::tool {
namespace {

// The signal that is waiting, taken off the queue; -1 when there is none.
int take_pending(const sigset_t& signals) {
  const timespec at_once{};
  return sigtimedwait(&signals, nullptr, &at_once);
}

bool is_ignored(int signal) {
  struct sigaction action {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

const char* name_of(int signal) {
  return signal == SIGINT ? "SIGINT" : signal == SIGTERM ? "SIGTERM" : "SIGHUP";
}

}  // namespace

Interruption::Interruption() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, SIGTERM);
  if (!is_ignored(SIGHUP)) sigaddset(&signals_, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals_, &previous_mask_);
}

Interruption::~Interruption() { pthread_sigmask(SIG_SETMASK, &previous_mask_, nullptr); }

void Interruption::check() const {
  const int signal = take_pending(signals_);
  if (signal <= 0) return;
  if (is_patient_ && noted_ == 0) {
    noted_ = signal;
    return;
  }
  throw Interrupted((signal == SIGINT ? "interrupted (" : "ended (") +
                    std::string(name_of(signal)) + ")");
}

const char* Interruption::noted() const {
  if (noted_ == 0) check();
  return noted_ == 0 ? nullptr : name_of(noted_);
}

}  // namespace strata::tool
