#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "strata/aio/io_queue.h"

namespace strata::aio {

/// One finished operation of an IoChannel.
struct IoOutcome {
  std::uint64_t tag = 0;     ///< as submitted
  std::exception_ptr error;  ///< null: done. Else what IoTicket::wait would throw
};

/// An IoQueue without a thread: the caller drives the backend, in turns, from the one thread that
/// uses the channel. No hand-over between threads, so the least latency and CPU time; but transfers
/// are issued and worked off only inside `reap`, and a call that the kernel holds up
/// (`Backend::may_wait_in_enqueue`) holds up the caller, deadlines or not. For programs whose
/// thread has nothing else to do.
///
/// Everything above the backend is IoQueue's: splitting, short transfers, retries, deadlines,
/// statistics, and its completion law: what `try_submit` accepted comes back through `reap` exactly
/// once. Nothing is allocated per operation, except for the error of one that failed.
class IoChannel {
 public:
  /// As IoQueue's. The thread stays where the caller put it, whatever `options.numa_node` says.
  IoChannel(const IoQueueOptions& options, const std::filesystem::path& probe_directory,
            Logger& log);
  IoChannel(const IoQueueOptions& options, std::unique_ptr<Backend> backend, Logger& log);
  /// Takes back what was accepted, or gives it up at its deadline.
  ~IoChannel();
  IoChannel(const IoChannel&) = delete;
  IoChannel& operator=(const IoChannel&) = delete;

  /// Accepts the operation, or returns false ("not now") when `operations_max` are unfinished.
  /// Throws UsageError for a misaligned, empty or out-of-file operation, DeadlineExceeded when an
  /// earlier transfer never came back.
  [[nodiscard]] bool try_submit(const Operation& operation, std::uint64_t tag);

  /// Issues what was accepted, waits at most `timeout` for an operation to finish and stores those
  /// that have. Returns the number stored; 0 after a time-out, and at once when none is unfinished.
  [[nodiscard]] std::size_t reap(std::span<IoOutcome> outcomes, std::chrono::nanoseconds timeout);

  /// As IoQueue::prepare, at once. Returns "" or the refusal. Throws IoError when the engine is
  /// unusable.
  std::string prepare(std::span<std::byte> memory);
  void forget(std::span<std::byte> memory) noexcept;
  std::string prepare(const IoFile& file);
  void forget(const IoFile& file) noexcept;

  /// Operations accepted and not yet handed back.
  [[nodiscard]] std::uint32_t unfinished() const noexcept;
  [[nodiscard]] IoStatistics statistics() const;
  [[nodiscard]] const IoQueueOptions& options() const noexcept;
  [[nodiscard]] const std::string& description() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace strata::aio
