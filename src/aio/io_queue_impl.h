#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "aio/engine_parts.h"
#include "strata/aio/io_queue.h"

namespace strata::aio {

/// What callers and the driver's thread share. The mutex guards everything between it and the
/// thread; the driver itself belongs to the thread alone.
struct IoQueue::Impl : EngineParts, std::enable_shared_from_this<Impl> {
  Impl(const IoQueueOptions& wanted, ChosenBackend chosen, Logger& log);

  /// Accepts a checked operation if there is a place.
  std::optional<IoTicket> accept(std::unique_lock<std::mutex>& lock, const Operation& operation);
  /// Asks the driver to end the use `generation` of a place early.
  void cancel(detail::OperationState& state, std::uint32_t generation);
  /// Frees the place of a failed operation.
  void reclaim(detail::OperationState& state);

  void run();
  bool exchange_with_callers();
  void publish_finished();
  void notify_finished();

  std::mutex mutex;
  std::condition_variable room;     // a place has become free, or none ever will
  std::condition_variable stopped;  // the driver's thread has left its loop
  detail::OperationList submitted;
  std::vector<detail::OperationState*> cancelled;  // for the driver
  std::uint32_t unfinished = 0;
  IoStatistics statistics;
  std::optional<Breakdown> breakdown;
  bool parked = false;  // the driver waits, or will before it looks here again
  bool stopping = false;
  bool has_stopped = false;
  bool has_lost_requests = false;

  std::thread thread;
};

}  // namespace strata::aio
