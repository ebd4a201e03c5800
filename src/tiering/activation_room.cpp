#include "strata/tiering/activation_room.h"

#include <algorithm>

#include "strata/base/units.h"

namespace strata::tiering {
namespace {

constexpr std::uint64_t kPageWished = 4_MiB;
constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kFramesWished = 8, kPlacesWished = 4;

}  // namespace

ActivationRoom activation_room(std::uint64_t host_bytes, std::uint64_t nvme_bytes,
                               std::uint64_t chunk_bytes) {
  const std::uint64_t grid = nvme_bytes > 0 ? std::max(chunk_bytes, kPage) : kPage;
  std::uint64_t wished = kPageWished;
  if (host_bytes > 0) wished = std::min(wished, host_bytes / kFramesWished);
  if (nvme_bytes > 0) wished = std::min(wished, nvme_bytes / kPlacesWished);
  ActivationRoom room{.page_bytes = std::max(wished / grid * grid, grid)};
  room.places = nvme_bytes / room.page_bytes;
  room.frames = host_bytes / room.page_bytes;
  if (room.places > 0) room.frames = std::max(room.frames, ActivationRoom::kLeastFrames);
  return room;
}

}  // namespace strata::tiering
