#include "zero3/host_cache.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>

#include "strata/base/units.h"
#include "strata/tiering/movement.h"
#include "strata/tiering/start_transfer.h"

namespace strata::zero3 {

namespace {

constexpr std::uint64_t kPieceBytes = 4_MiB;  // chunks are powers of two, and so is this
constexpr std::size_t kPiecesUnderWay = 8;    // enough to keep a disk busy

void wait_for_oldest(std::deque<tiering::Transfer>& under_way) {
  tiering::Transfer oldest = std::move(under_way.front());
  under_way.pop_front();
  oldest.wait();
}

}  // namespace

void keep_in_host_memory(tiering::StateHome& home, std::string_view what, tiering::Tiers& tiers) {
  tiering::ShardStore& store = *tiers.store();
  const tiering::Extent extent = *home.extent;
  const std::span<std::byte> memory =
      tiers.take_home(tiering::Tier::kHost, store.buffer_bytes(extent.bytes), what).memory;
  const std::uint64_t piece = std::max(kPieceBytes, store.chunk_bytes());
  std::deque<tiering::Transfer> under_way;
  for (std::uint64_t begin = 0; begin < extent.bytes; begin += piece) {
    const tiering::ByteRange range{begin, std::min(piece, extent.bytes - begin)};
    if (under_way.size() == kPiecesUnderWay) wait_for_oldest(under_way);
    std::optional<tiering::Transfer> started;
    while (!(started = tiering::fetch(store, extent, range, memory.subspan(begin)))) {
      if (under_way.empty()) {
        wait_for_room(store);
      } else {
        wait_for_oldest(under_way);
      }
    }
    under_way.push_back(*std::move(started));
  }
  while (!under_way.empty()) wait_for_oldest(under_way);
  home = {.memory = memory.first(extent.bytes)};
}

}  // namespace strata::zero3
