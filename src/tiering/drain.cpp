#include "strata/tiering/movement.h"

namespace strata::tiering {

DeviceCopy drain(Device& device, DeviceSpan source, std::span<std::byte> pinned,
                 Counters& counters) {
  const ScopedTimer busy(counters, Hop::kDrain, ScopedTimer::Kind::kBusy, {}, pinned.size());
  device.copy_to_host(StreamRole::kDrain, source, pinned);
  counters.add_moved(Hop::kDrain, pinned.size());
  return DeviceCopy(device, StreamRole::kDrain, pinned);
}

}  // namespace strata::tiering
