#include "strata/tiering/movement.h"

namespace strata::tiering {

DeviceCopy upload(Device& device, std::span<const std::byte> pinned, DeviceSpan target,
                  Counters& counters) {
  ScopedTimer busy(counters, Hop::kUpload, ScopedTimer::Kind::kBusy, {}, pinned.size());
  busy.reads(memory_range(pinned));
  busy.writes({target.address(), pinned.size()});
  device.copy_to_device(StreamRole::kUpload, pinned, target);
  counters.add_moved(Hop::kUpload, pinned.size());
  return DeviceCopy(device, StreamRole::kUpload, pinned);
}

}  // namespace strata::tiering
