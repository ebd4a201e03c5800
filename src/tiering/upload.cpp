#include "strata/tiering/movement.h"
#include "tiering/host_copy.h"

namespace strata::tiering {

void upload(std::span<const std::byte> pinned, std::span<std::byte> device, Counters& counters) {
  copy_on_host(Hop::kUpload, pinned, device, counters);
}

}  // namespace strata::tiering
