#pragma once

namespace strata::tiering {

namespace detail {
class Transfers;
struct TransferState;
}  // namespace detail

/// A fetch or flush under way. The buffer is lent to the store until it is done. Move-only;
/// destroying one that is not done waits for it and drops its error.
class Transfer {
 public:
  Transfer(Transfer&&) noexcept;
  Transfer& operator=(Transfer&&) noexcept;
  ~Transfer();

  /// True once `wait` would not block. Never blocks.
  [[nodiscard]] bool done() const noexcept;

  /// Waits for the bytes and, for a fetch, compares every chunk with its checksum. Call once.
  /// Throws IoError (path, offset, length, errno), DeadlineExceeded, CorruptData (extent's name,
  /// chunk, path, offset: a flipped bit, a misdirected, a lost or a stale write), UsageError when
  /// called twice. After DeadlineExceeded the buffer stays the kernel's until the process ends:
  /// neither reuse nor unmap it. For a transfer that several operations carry, IoError may also be
  /// the queue's EBUSY: other transfers failed, and wait to be waited for (`Submitter::submit`).
  void wait();

 private:
  friend class detail::Transfers;
  explicit Transfer(detail::TransferState* state) : state_(state) {}
  detail::TransferState* state_;
};

}  // namespace strata::tiering
