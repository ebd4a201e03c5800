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

/// What homes are in. What no home needs is null.
struct HomePlaces {
  ShardStore* store = nullptr;
  Device* device = nullptr;
  Counters* counters = nullptr;  ///< of the device's copies; the store has its own
};

/// A range of a home on its way to or from a buffer. Move-only; destroying one that is not done
/// waits for it and drops its error.
class HomeTransfer {
 public:
  explicit HomeTransfer(Transfer transfer) : transfer_(std::move(transfer)) {}
  explicit HomeTransfer(DeviceCopy copy) : transfer_(std::move(copy)) {}

  /// As Transfer's and DeviceCopy's.
  [[nodiscard]] bool done();
  void wait();

 private:
  std::variant<Transfer, DeviceCopy> transfer_;
};

/// Brings a range of a home that `is_elsewhere` to `target`. Returns at once. Not now (nullopt),
/// lending, sizes and errors: as `fetch` in movement.h where the home is nvme; a device takes a
/// copy always, and `target` has the range's bytes at least.
[[nodiscard]] std::optional<HomeTransfer> fetch_home(const HomePlaces& places,
                                                     const StateHome& home, ByteRange range,
                                                     std::span<std::byte> target);
/// The way back, as `flush` in movement.h.
[[nodiscard]] std::optional<HomeTransfer> flush_home(const HomePlaces& places,
                                                     const StateHome& home, ByteRange range,
                                                     std::span<std::byte> source);

}  // namespace strata::tiering
