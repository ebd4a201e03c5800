#pragma once

#include <cstdint>
#include <sstream>

#include "strata/base/log.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/tiering/budget.h"
#include "strata/tiering/host_arena.h"

namespace strata::optim_cpu {

/// What a pipeline works with beside its store: threads, memory without a bound, and a log that
/// nobody reads.
struct StepTools {
  explicit StepTools(int thread_count) : threads(thread_count) {}

  [[nodiscard]] tiering::HostArena arena(std::uint64_t bytes) {
    return tiering::HostArena(host, bytes, log);
  }

  std::ostringstream log_text;
  Logger log{log_text};
  tiering::Budget host{tiering::Tier::kHost};
  ComputeThreads threads;
};

}  // namespace strata::optim_cpu
