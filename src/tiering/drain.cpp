#include "strata/tiering/movement.h"
#include "tiering/host_copy.h"

namespace strata::tiering {

void drain(std::span<const std::byte> device, std::span<std::byte> pinned, Counters& counters) {
  copy_on_host(Hop::kDrain, device, pinned, counters);
}

}  // namespace strata::tiering
