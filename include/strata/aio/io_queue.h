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
#include "strata/aio/lost_memory.h"
#include "strata/base/clock.h"
#include "strata/base/log.h"

namespace strata::aio {

class PathMeter;

enum class BackendKind { kAuto, kIoUring, kLibaio, kThreads };

/// Bounds and habits of a queue. Bytes are bytes.
struct IoQueueOptions {
  BackendKind backend = BackendKind::kAuto;
  std::uint32_t block_bytes = 1u << 20;          ///< longest request; a multiple of 4096
  std::uint32_t depth = 32;                      ///< requests in flight at once
  std::uint32_t threads = 4;                     ///< of the threads backend
  std::uint32_t operations_max = 256;            ///< operations accepted and not yet finished
  std::chrono::milliseconds warn_after{5'000};   ///< a request older than this is reported once
  std::chrono::milliseconds fail_after{90'000};  ///< and older than this fails its operation
  int numa_node = -1;  ///< whose cores the queue's threads run on (disk.h); -1: anywhere
  const Clock* clock = &kSystemClock;  ///< of deadlines and pauses; outlives the queue
};

/// Totals since the queue was made.
struct IoStatistics {
  std::uint64_t bytes_read = 0, bytes_written = 0;
  std::uint64_t requests = 0;
  std::uint64_t short_transfers = 0;  ///< finished by asking for the rest
  std::uint64_t retries = 0;          ///< EINTR and EAGAIN
};

/// A contiguous transfer between memory and a file. Offset, length and address are multiples of
/// `file->alignment()`; the length may exceed `block_bytes` and is not zero. The transfer lies
/// within the preallocated file.
struct Operation {
  OpKind kind;
  const IoFile* file;
  std::uint64_t offset;
  std::span<std::byte> buffer;
  PathMeter* meter = nullptr;  ///< told of its requests (path_meter.h); null: nobody is
};

namespace detail {
struct OperationState;
}

/// The right to the result of one accepted operation, and the duty to keep its buffer and its file
/// alive. Move-only. Destroying a ticket that is not done waits for it (its buffer is lent to the
/// kernel) and drops its error. A finished operation costs the queue nothing while its ticket is
/// kept; a failed one holds its place until then. The queue may be destroyed first: it finishes the
/// operation, and the outcome remains. Thread: one at a time, but for `cancel`.
class IoTicket {
 public:
  IoTicket(IoTicket&&) noexcept;
  IoTicket& operator=(IoTicket&&) noexcept;
  ~IoTicket();

  /// True once the outcome is known. Never blocks.
  [[nodiscard]] bool done() const noexcept;

  /// Waits for the outcome. Call once.
  /// Throws IoError (path, offset, length, errno) when the transfer failed, DeadlineExceeded when
  /// it took longer than `fail_after` or the I/O engine failed under it (then the buffer stays the
  /// kernel's until the process ends: neither reuse, free nor unmap it, see
  /// `IoQueue::lost_memory`, nor close the file),
  /// Cancelled after `cancel`, UsageError when called twice.
  void wait();

  /// Asks that the operation end early: blocks that the backend does not have yet are dropped. What
  /// it has comes home first, so the outcome, which `wait` still delivers, is Cancelled (which
  /// bytes were moved is unknown) or success when nothing was left to drop. Never blocks. Thread:
  /// also while another one waits.
  void cancel() noexcept;

 private:
  friend class IoQueue;
  IoTicket(std::shared_ptr<detail::OperationState> state, std::uint32_t generation);
  void settle() noexcept;
  [[nodiscard]] bool has_failed() const noexcept;

  std::shared_ptr<detail::OperationState> state_;  // with all of its queue; null once moved from
  std::uint32_t generation_;                       // which use of the state is this ticket's
  bool settled_ = false;                           // the outcome was delivered or dropped
};

/// Memory or a file that a queue's backend has been told of in advance (`IoQueue::prepare`). Keep
/// it while the memory is mapped or the file open, and destroy it before either ends, and before
/// the queue, when no operation with it is in flight. Move-only; destroying it waits for the
/// queue's thread.
class IoPreparation {
 public:
  IoPreparation(IoPreparation&&) noexcept;
  IoPreparation& operator=(IoPreparation&&) noexcept;
  ~IoPreparation();

  /// "" when the backend makes use of it, else why it does not ("ENOMEM; raise ulimit -l ...").
  [[nodiscard]] const std::string& refusal() const noexcept { return refusal_; }

 private:
  friend class IoQueue;
  IoPreparation() = default;
  void forget() noexcept;

  std::shared_ptr<void> queue_;  // null once forgotten, refused or moved from
  std::span<std::byte> memory_;
  int fd_ = -1;
  std::string refusal_;
};

/// What is common above every backend: splitting into blocks, short transfers, bounded retries,
/// depth kept full across operations, deadlines, statistics. Deadlines hold also where the kernel
/// does not come back from taking a request (`Backend::may_wait_in_enqueue`).
///
/// Completion law: an operation for which `try_submit` returned a ticket finishes exactly once,
/// with its outcome in `wait()`; one for which it returned nullopt was never started. A thread of
/// the queue's own drives the backend, so transfers progress while callers compute. Requests start
/// in submission order and finish in any order. Two operations in flight must not overlap unless
/// both read. Thread: all methods from any thread. Nothing is allocated per operation.
class IoQueue {
 public:
  /// `probe_directory` is where `kAuto` tries a real transfer to choose the backend; the choice and
  /// its reason go to `log` and `description()`. Throws ConfigError for options out of range,
  /// IoError when the asked backend cannot be had.
  IoQueue(const IoQueueOptions& options, const std::filesystem::path& probe_directory, Logger& log);
  /// Over a backend of the caller's (tests, benchmarks); `options.backend` and `options.threads` do
  /// not apply.
  IoQueue(const IoQueueOptions& options, std::unique_ptr<Backend> backend, Logger& log);
  /// Finishes what was accepted, or gives it up at its deadline.
  ~IoQueue();
  IoQueue(const IoQueue&) = delete;
  IoQueue& operator=(const IoQueue&) = delete;

  /// Accepts the operation, or returns nullopt ("not now") when `operations_max` are in flight.
  /// Throws UsageError for a misaligned, empty or out-of-file operation, DeadlineExceeded when an
  /// earlier transfer never came back.
  [[nodiscard]] std::optional<IoTicket> try_submit(const Operation& operation);

  /// As try_submit, but waits for room. Throws UsageError too when there will be none because
  /// failed operations, whose tickets nobody waited for, hold every place.
  [[nodiscard]] IoTicket submit(const Operation& operation);

  /// Lets the backend prepare memory or a file once instead of for every request (io_uring:
  /// registered buffers and files, which take the pinning of pages and the look-up of the file out
  /// of each request). Never necessary; what the backend or a limit refuses is used as before, and
  /// `refusal()` says why. Waits for the queue's thread.
  [[nodiscard]] IoPreparation prepare(std::span<std::byte> memory);
  [[nodiscard]] IoPreparation prepare(const IoFile& file);

  [[nodiscard]] IoStatistics statistics() const;
  /// Buffers of operations that ended with DeadlineExceeded and that the kernel may still write to.
  /// For the owners of memory that this queue transfers to and from; it may outlive the queue.
  [[nodiscard]] std::shared_ptr<const LostMemory> lost_memory() const noexcept;
  [[nodiscard]] const IoQueueOptions& options() const noexcept;
  /// "io_uring", or "libaio (io_uring: EPERM, blocked by a sandbox; allow io_uring_setup to use
  /// it)".
  [[nodiscard]] const std::string& description() const noexcept;

 private:
  friend class IoTicket;
  friend class IoPreparation;
  friend struct detail::OperationState;
  struct Impl;
  std::shared_ptr<Impl> impl_;  // shared with the driver's thread
};

}  // namespace strata::aio
