#pragma once

#include <array>
#include <cstddef>
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

  /// Fills the vectors with the shards of the other ranks: each has size() equal shards in rank
  /// order, of which this rank's has been put on the device's stream of uploads. What is put on the
  /// compute stream afterwards finds them whole. Nothing happens with one rank. Throws what Ranks
  /// and Collective::wait throw, DeviceError, DeadlineExceeded.
  void gather(std::span<const tiering::DeviceSpan> vectors);

  /// Begins to exchange the gradients in `bucket`, a piece for each of several ranks, which the
  /// compute stream has put there; it may be filled again when this returns on a device that is not
  /// host memory, else when the reduction has finished. One at a time. Throws what `gather` throws.
  [[nodiscard]] Reduction begin_reduction(tiering::DeviceSpan bucket);

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

  Places places_;
  Counters& counters_;
  std::array<Half, 2> halves_;
  std::size_t next_half_ = 0;
};

}  // namespace strata::zero3
