#pragma once

#include <deque>
#include <mutex>

#include "strata/tiering/home_transfer.h"
#include "strata/tiering/slot_pool.h"

namespace strata::zero3 {

/// Staging buffers whose bytes are on their way home, oldest first. Destroying it waits for all and
/// drops their errors. Thread: one, but for `try_send`.
class WritesInFlight {
 public:
  /// `slots` outlives it, and what `places` names.
  WritesInFlight(tiering::SlotPool& slots, const tiering::HomePlaces& places)
      : slots_(slots), places_(places) {}

  /// A free buffer; where there is none, that of the oldest write once it has arrived. Throws what
  /// HomeTransfer::wait throws for a write that failed.
  [[nodiscard]] tiering::StagingSlot take();
  /// Whether there is a buffer that `take` can give.
  [[nodiscard]] bool can_take() const { return !writes_.empty() || slots_.free_count() > 0; }
  [[nodiscard]] std::size_t slots() const noexcept { return slots_.count(); }

  /// Starts to write a buffer to a range of a home on nvme, and takes it over. False: not now; the
  /// buffer stays the caller's. Throws what flush_home throws. Thread: any, for different ranges.
  [[nodiscard]] bool try_send(tiering::StagingSlot& slot, const tiering::StateHome& home,
                              tiering::ByteRange range);
  /// The same for any home elsewhere, which waits where the I/O queue has no room: for its own
  /// oldest write first. Throws also DeadlineExceeded when no room comes, and what `take` throws.
  void send(tiering::StagingSlot slot, const tiering::StateHome& home, tiering::ByteRange range);

  /// Waits for all. Throws what HomeTransfer::wait throws for the first that failed; those behind
  /// it are still under way then.
  void wait();

 private:
  struct Write {
    tiering::StagingSlot slot;
    tiering::HomeTransfer transfer;  // ends before its buffer is given back
  };
  void settle_oldest();

  tiering::SlotPool& slots_;
  tiering::HomePlaces places_;
  std::mutex mutex_;  // guards writes_ while several threads send
  std::deque<Write> writes_;
};

}  // namespace strata::zero3
