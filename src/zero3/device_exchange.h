#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "strata/base/counters.h"
#include "strata/tiering/device.h"
#include "strata/tiering/device_copy.h"
#include "zero3/ranks/ranks.h"
#include "zero3/reduction.h"

namespace strata::zero3 {

/// Lets the ranks exchange what is on their devices: shards of weights (hop 3, gather) and packed
/// gradients (hop 5, reduce).
///
/// Where the device's memory is host memory they exchange it where it lies. Elsewhere it goes
/// through host memory in pieces: drained, exchanged, and, if it is weights, uploaded; gradients
/// are added up on the host, where their homes are. The host waits for each piece on its way down.
///
/// Thread: that of Ranks.
class DeviceExchange {
 public:
  /// Bytes that came from other ranks; as many went to them.
  struct Received {
    std::uint64_t weights = 0, gradients = 0;
  };

  struct Places {
    tiering::Device& device;
    Ranks& ranks;
    /// Where the device's memory is host memory: room for the gradients that come from the ranks.
    tiering::DeviceSpan received{};
    /// Where it is not: two equal halves, each with room for the gradients that come from the ranks
    /// and for a piece, of at least a byte, from each of them. Known to the device. Both: empty
    /// with one rank.
    std::span<std::byte> staging{};
  };
  DeviceExchange(const Places& places, Counters& counters);

  [[nodiscard]] Ranks& ranks() const noexcept { return places_.ranks; }
  [[nodiscard]] const Received& received() const noexcept { return received_; }

  /// Fills the vectors with the shards of the other ranks: each has size() equal shards in rank
  /// order, of which this rank's has been put on the device's stream of uploads. What is put on the
  /// compute stream afterwards finds them whole. Nothing happens with one rank. Throws what Ranks
  /// and Collective::wait throw, DeviceError, DeadlineExceeded.
  void gather(std::span<const tiering::DeviceSpan> vectors);

  /// Begins to exchange the gradients in `bucket`, a piece for each of several ranks, which the
  /// compute stream has put there; it may be filled again when this returns on a device that is not
  /// host memory, else when the reduction has finished. One at a time. Throws what `gather` throws.
  [[nodiscard]] Reduction begin_reduction(tiering::DeviceSpan bucket);

  /// Lets every rank have the sums of all: `own` is this rank's piece of what was reduced last, at
  /// most as long as a piece of it in fp32. Returns size() pieces in rank order, valid until the
  /// next call of any kind. Throws what Ranks and Collective::wait throw.
  [[nodiscard]] std::span<const std::byte> gather_sums(std::span<const std::byte> own);

 private:
  struct Half {
    std::span<std::byte> memory;
    std::vector<tiering::DeviceCopy> uploads{};  // under way from it
  };

  [[nodiscard]] bool is_in_place() const { return places_.device.properties().memory_is_host; }
  void gather_in_place(std::span<const tiering::DeviceSpan> vectors);
  void gather_through_host(tiering::DeviceSpan vector);
  /// The half's memory, when nothing is uploaded from it any more.
  [[nodiscard]] static std::span<std::byte> free_memory(Half& half);
  /// The bytes of `of_all` ranks that are not this one's.
  [[nodiscard]] std::uint64_t from_others(std::uint64_t of_all) const;

  Places places_;
  Counters& counters_;
  std::array<Half, 2> halves_;
  std::size_t next_half_ = 0;
  Received received_;
};

}  // namespace strata::zero3
