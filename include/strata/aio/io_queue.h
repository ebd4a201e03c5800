#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "strata/aio/backend.h"
#include "strata/aio/io_file.h"
#include "strata/aio/submitter.h"
#include "strata/base/clock.h"
#include "strata/base/io_backend.h"
#include "strata/base/log.h"

namespace strata::aio {

/// Bounds and habits of a queue.
struct IoQueueOptions {
  IoBackend backend = IoBackend::kAuto;
  std::uint32_t block_bytes = 1u << 20;          ///< longest request; a multiple of 4096
  std::uint32_t depth = 32;                      ///< requests in flight at once
  std::uint32_t threads = 4;                     ///< threads of the threads backend
  std::uint32_t operations_max = 256;            ///< operations accepted and not yet finished
  std::chrono::milliseconds warn_after{5'000};   ///< a request older than this is reported once
  std::chrono::milliseconds fail_after{90'000};  ///< one older than this fails its operation
  int numa_node = -1;                  ///< node for the queue's threads (disk.h); -1: anywhere
  const Clock* clock = &kSystemClock;  ///< times deadlines and pauses; outlives the queue
};

/// Totals since the queue was made.
struct IoStatistics {
  std::uint64_t bytes_read = 0, bytes_written = 0;
  std::uint64_t requests = 0;
  std::uint64_t short_transfers = 0;  ///< transfers finished by asking for the rest
  std::uint64_t retries = 0;          ///< EINTR and EAGAIN
  std::chrono::nanoseconds busy{0};   ///< time with at least one operation under way
};

/// The part above all backends: splitting into blocks, short transfers, bounded retries, depth
/// kept full across operations, deadlines, statistics. Deadlines hold even when the kernel does not
/// return from taking a request (`Backend::may_wait_in_enqueue`).
///
/// A thread of the queue's own drives the backend, so transfers progress while callers compute.
/// Thread: all methods from any thread. Nothing is allocated per operation.
class IoQueue final : public Submitter {
 public:
  /// `probe_directory` is where the backend shows that it moves bytes; `kAuto` takes the first that
  /// does. The choice and its reason go to `log` and `description()`. Throws ConfigError for
  /// options out of range, IoError when the asked backend cannot be had.
  IoQueue(const IoQueueOptions& options, const std::filesystem::path& probe_directory, Logger& log);
  /// Uses the caller's own backend (tests, benchmarks); `options.backend` and `options.threads` do
  /// not apply.
  IoQueue(const IoQueueOptions& options, std::unique_ptr<Backend> backend, Logger& log);
  /// Finishes what was accepted, or gives it up at its deadline.
  ~IoQueue();
  IoQueue(const IoQueue&) = delete;
  IoQueue& operator=(const IoQueue&) = delete;

  [[nodiscard]] std::optional<IoTicket> try_submit(const Operation& operation) override;
  [[nodiscard]] IoTicket submit(const Operation& operation) override;
  [[nodiscard]] bool wait_for_room(std::chrono::nanoseconds timeout) override;
  /// Both register on the queue's thread and wait for it.
  [[nodiscard]] IoRegistration register_memory(std::span<std::byte> memory) override;
  [[nodiscard]] IoRegistration register_file(const IoFile& file) override;
  [[nodiscard]] std::uint32_t operations_max() const noexcept override;
  [[nodiscard]] std::shared_ptr<const LostMemory> lost_memory() const noexcept override;

  [[nodiscard]] IoStatistics statistics() const;
  [[nodiscard]] const IoQueueOptions& options() const noexcept;
  /// "io_uring", or "libaio (io_uring: EPERM, blocked by a sandbox; allow io_uring_setup to use
  /// it)".
  [[nodiscard]] const std::string& description() const noexcept;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;  // shared with the driver's thread
};

}  // namespace strata::aio
