#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "aio/acceptor.h"
#include "aio/engine_parts.h"
#include "strata/aio/io_queue.h"

namespace strata::aio {

/// A task for the driver's thread. It lies on the caller's stack; the caller waits.
struct DriverCommand {
  std::string (*carry_out)(Backend&, const DriverCommand&) = nullptr;
  std::span<std::byte> memory = {};
  int fd = -1;
  std::string answer = {};
  bool is_done = false;
  DriverCommand* next = nullptr;  // next one in the queue's list
};

/// The state that callers and the driver's thread share. The mutex guards everything between it and
/// the thread; the driver itself belongs to the thread alone.
struct IoQueue::Impl final : EngineParts, detail::Acceptor, std::enable_shared_from_this<Impl> {
  Impl(const IoQueueOptions& wanted, ChosenBackend chosen, Logger& logger);

  /// Accepts a checked operation if there is a place.
  std::optional<IoTicket> accept(std::unique_lock<std::mutex>& lock, const Operation& operation);
  /// Starts the threads, once. Throws IoError when a thread cannot be had.
  void start_threads();
  /// Finishes what was accepted, or gives it up at its deadline, and ends the threads.
  void stop();

  void wait_for(detail::OperationState& state, std::uint32_t generation) noexcept override;
  void look() noexcept override {}  // the driver's thread does
  void reclaim(detail::OperationState& state) override;
  void forget_memory(std::span<std::byte> memory) noexcept override;
  void forget_file(int fd) noexcept override;

  /// Waits until the driver's thread has carried out `command`. Returns its answer.
  std::string ask_driver(DriverCommand& command);

  /// Runs on the driver's thread.
  void run();
  /// Runs on the watcher's thread, where an engine's calls may be held up: ends the queue in place
  /// of a driver's thread that does not come back in time.
  void watch();
  void move_to_its_node();
  bool serve_callers();
  bool exchange_with_callers();
  void publish_finished();
  void notify_finished();
  void obey(DriverCommand* first);

  Logger& log;
  std::mutex mutex;
  std::condition_variable room;     // a place has become free, or none ever will
  std::condition_variable stopped;  // the driver's thread has left its loop
  std::condition_variable obeyed;   // commands are done
  detail::OperationList submitted;
  DriverCommand* commands = nullptr;  // to be done by the driver
  std::uint32_t unfinished = 0;
  IoStatistics statistics;
  std::optional<Breakdown> breakdown;
  bool parked = false;  // the driver waits, or will before it looks here again
  bool stopping = false;
  bool has_stopped = false;
  bool has_lost_requests = false;

  DriverCommand* taken = nullptr;  // used by the driver's thread only
  std::thread thread;
  std::thread watcher;  // none where nothing is to be watched
};

}  // namespace strata::aio
