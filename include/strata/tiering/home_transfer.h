#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <variant>

#include "strata/base/counters.h"
#include "strata/tiering/device.h"
#include "strata/tiering/device_copy.h"
#include "strata/tiering/shard_store.h"
#include "strata/tiering/state_home.h"

/// \file
/// States on their way between their home and a buffer in host memory, whatever the home is: a
/// fetch or a flush where it is nvme, a copy of the device where host code cannot touch it.

namespace strata::tiering {

/// The places that homes are in; null where no home needs one.
struct HomePlaces {
  ShardStore* store = nullptr;
  Device* device = nullptr;
  Counters* counters = nullptr;  ///< counts the device's copies; the store has its own
};

/// A range of a home on its way to or from a buffer. Move-only; destroying one that is not done
/// waits for it and drops its error.
class HomeTransfer {
 public:
  explicit HomeTransfer(Transfer transfer) : transfer_(std::move(transfer)) {}
  explicit HomeTransfer(DeviceCopy copy) : transfer_(std::move(copy)) {}

  /// Both have the contracts of Transfer's and DeviceCopy's.
  [[nodiscard]] bool done();
  void wait();

 private:
  std::variant<Transfer, DeviceCopy> transfer_;
};

/// Brings a range of a home that `is_elsewhere` to `target`. Returns at once. Not now (nullopt),
/// lending, sizes and errors are those of `fetch` in movement.h where the home is nvme; a device
/// always takes a copy, and `target` has at least the range's bytes.
[[nodiscard]] std::optional<HomeTransfer> fetch_home(const HomePlaces& places,
                                                     const StateHome& home, ByteRange range,
                                                     std::span<std::byte> target);
/// Brings it back, with the contract of `flush` in movement.h where the home is nvme.
[[nodiscard]] std::optional<HomeTransfer> flush_home(const HomePlaces& places,
                                                     const StateHome& home, ByteRange range,
                                                     std::span<std::byte> source);

}  // namespace strata::tiering
