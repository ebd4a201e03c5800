#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "strata/base/counters.h"
#include "strata/tiering/activation_room.h"
#include "strata/tiering/device.h"
#include "strata/tiering/device_span.h"
#include "strata/tiering/extent.h"
#include "strata/tiering/shard_store.h"

namespace strata::tiering {

/// The right to bytes that an ActivationStore took, and their room there, which comes back when it
/// is destroyed. Move-only; may outlive the store. Thread: any may destroy it.
class ActivationTicket {
 public:
  ActivationTicket(ActivationTicket&&) noexcept;
  ActivationTicket& operator=(ActivationTicket&&) noexcept;
  ~ActivationTicket();

  [[nodiscard]] std::uint64_t bytes() const noexcept;
  /// Done when the bytes have left the memory that they were put from, which may serve something
  /// else then.
  [[nodiscard]] const Event& left() const noexcept;

 private:
  friend class ActivationStore;
  struct State;
  explicit ActivationTicket(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Keeps activations between forward and backward: bytes of the device go to host memory, and what
/// has no room there to nvme.
///
/// What is put last is wanted first. So host memory keeps what is wanted soonest, and is at the
/// same time the buffer of writes: pages that are wanted latest are written while forward goes on,
/// a few ahead of need, and give up their frame once it is asked for. Backward finds the rest in
/// memory, also what is still being written, and meanwhile reads pages back in the order of use, as
/// frames come free.
///
///     frames   |  5 . 6 . 7 . 8  |     what backward begins with
///     places   |  1 . 2 . 3 . 4  |     what it ends with
///
/// Everything is taken when it is made: `memory` of the host and an extent of the store. The tiers'
/// errors are those of their operations: IoError, CorruptData, DeadlineExceeded, DeviceError; want
/// of room is none. Thread-safe; a call that waits for the disk holds up others.
class ActivationStore {
 public:
  /// Where it keeps the bytes; all of it outlives the store.
  struct Places {
    std::span<std::byte> memory;        ///< room.host_bytes(), aligned to 4096
    ShardStore* store = nullptr;        ///< null where the room has no places
    std::optional<Extent> extent = {};  ///< of room.nvme_bytes() there
    Device* device = nullptr;           ///< device whose bytes it takes
  };
  /// Throws UsageError for places that do not have the room.
  ActivationStore(const ActivationRoom& room, const Places& places, Counters& counters);
  /// Waits for transfers under way.
  ~ActivationStore();
  ActivationStore(const ActivationStore&) = delete;
  ActivationStore& operator=(const ActivationStore&) = delete;

  /// Takes the bytes of `source`: memory that is the device's, or the host's where the device's
  /// memory is host memory. Ordered behind all that is on the compute stream now. `source` is lent
  /// until `ActivationTicket::left` is done. Not now (nullopt): there is no room, and nothing is
  /// taken. Waits for the disk where host memory fills faster than it writes.
  [[nodiscard]] std::optional<ActivationTicket> put(DeviceSpan source);

  /// Copies the bytes of a ticket to `target`, as often as they are wanted. What is put on the
  /// compute stream from now on finds them there; earlier uses of `target` belong to that stream
  /// too. Waits for the disk where they are not in memory yet. Throws UsageError for another length
  /// or another store's ticket.
  void bring(const ActivationTicket& ticket, DeviceSpan target);

  /// Says that what is put from now on is wanted before all that was put so far. Bytes between two
  /// of these calls are wanted in the order in which they are put.
  void begin_group();

  [[nodiscard]] ActivationReading reading() const;
  [[nodiscard]] const ActivationRoom& room() const noexcept { return room_; }

 private:
  friend class ActivationTicket;
  struct Impl;
  struct Link;
  const ActivationRoom room_;
  std::unique_ptr<Impl> impl_;
  std::shared_ptr<Link> link_;  // shared with tickets, which ask it whether the store lives
};

}  // namespace strata::tiering
