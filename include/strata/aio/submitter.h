#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "strata/aio/lost_memory.h"
#include "strata/aio/operation.h"

namespace strata::aio {

namespace detail {
class Acceptor;
struct OperationState;
}  // namespace detail

/// The right to the result of one accepted operation, and the duty to keep its buffer and its file
/// alive. Move-only. Destroying a ticket that is not done waits for it (its buffer is lent to the
/// kernel) and drops its error. A finished operation costs the queue nothing while its ticket is
/// kept; a failed one holds its place until then. The queue may be destroyed first: it finishes the
/// operation, and the outcome remains. Thread: one at a time; a channel's only on the channel's
/// thread.
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
  /// `Submitter::lost_memory`, nor close the file), UsageError when called twice.
  void wait();

 private:
  friend class IoQueue;
  friend class IoChannel;
  IoTicket(std::shared_ptr<detail::OperationState> state, std::uint32_t generation);
  void settle() noexcept;

  std::shared_ptr<detail::OperationState> state_;  // keeps the queue's Impl; null once moved from
  std::uint32_t generation_;                       // tells which use of the state is this ticket's
  bool settled_ = false;                           // the outcome was delivered or dropped
};

/// Memory or a file that a backend has been told of in advance (`Submitter::register_memory`). Keep
/// it while the memory is mapped or the file open. Destroy it before either ends and before the
/// queue, when no operation with it is in flight. Move-only; destroying it waits for the queue's
/// thread.
class IoRegistration {
 public:
  IoRegistration(IoRegistration&&) noexcept;
  IoRegistration& operator=(IoRegistration&&) noexcept;
  ~IoRegistration();

  /// "" when the backend makes use of it, else why it does not ("ENOMEM; raise ulimit -l ...").
  [[nodiscard]] const std::string& refusal() const noexcept { return refusal_; }

 private:
  friend class IoQueue;
  friend class IoChannel;
  IoRegistration(std::shared_ptr<detail::Acceptor> acceptor, std::span<std::byte> memory, int fd,
                 std::string refusal);
  void forget() noexcept;

  std::shared_ptr<detail::Acceptor> acceptor_;  // null once forgotten, refused or moved from
  std::span<std::byte> memory_;
  int fd_ = -1;
  std::string refusal_;
};

/// Moves bytes for the layers above: an IoQueue, whose thread carries transfers on while they
/// compute, or an IoChannel, which they drive themselves by waiting.
///
/// Completion law: an operation for which `try_submit` returned a ticket finishes exactly once,
/// with its outcome in `IoTicket::wait`; one for which it returned nullopt was never started.
/// Requests start in submission order and finish in any order. Two operations in flight must not
/// overlap unless both read.
class Submitter {
 public:
  /// Accepts the operation, or returns nullopt ("not now") when `operations_max` are in flight.
  /// Throws UsageError for a misaligned, empty or out-of-file operation, DeadlineExceeded when an
  /// earlier transfer never came back.
  [[nodiscard]] virtual std::optional<IoTicket> try_submit(const Operation& operation) = 0;

  /// Does what try_submit does, but waits for room. Throws IoError (EBUSY) when failed operations,
  /// whose tickets nobody has waited for yet, hold every place, so that none will come free.
  [[nodiscard]] virtual IoTicket submit(const Operation& operation) = 0;

  /// Waits at most `timeout` until `try_submit` would answer something other than "not now". False:
  /// the time is over, or nothing is in flight that could make room.
  [[nodiscard]] virtual bool wait_for_room(std::chrono::nanoseconds timeout) = 0;

  /// Registers memory or a file with the backend once instead of with every request (io_uring:
  /// registered buffers and files, which save pinning the pages and looking the file up in each
  /// request). Never necessary; what the backend or a limit refuses is used as before, and
  /// `refusal()` says why.
  [[nodiscard]] virtual IoRegistration register_memory(std::span<std::byte> memory) = 0;
  [[nodiscard]] virtual IoRegistration register_file(const IoFile& file) = 0;

  /// Operations that may be accepted and not yet finished.
  [[nodiscard]] virtual std::uint32_t operations_max() const noexcept = 0;

  /// Buffers of operations that ended with DeadlineExceeded: the kernel may still write to them.
  /// Owners of memory lent to the queue ask it; it may outlive the queue.
  [[nodiscard]] virtual std::shared_ptr<const LostMemory> lost_memory() const noexcept = 0;

 protected:
  ~Submitter() = default;  // lent, never owned through this interface
};

}  // namespace strata::aio
