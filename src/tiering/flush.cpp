#include <algorithm>

#include "strata/tiering/checksum.h"
#include "strata/tiering/movement.h"
#include "tiering/transfer_state.h"

namespace strata::tiering {
namespace {

/// Gives chunks the places that the shares of the paths call for.
void begin_moves(detail::TransferState& transfer) {
  ExtentRecord& extent = *transfer.extent;
  const std::lock_guard lock(transfer.store->mutex);
  for (std::uint64_t chunk = transfer.chunks.first; chunk < transfer.chunks.last; ++chunk) {
    if (!extent.is_whole(chunk)) continue;
    const ChunkPlace from = extent.place_of(chunk);
    const auto to = transfer.store->stripes.move(extent.first_position() + chunk, from);
    if (!to) continue;
    extent.set_place(chunk, *to);
    transfer.moves.push_back({chunk, from});
  }
}

}  // namespace

void detail::end_moves(TransferState& transfer, bool arrived) {
  ExtentRecord& extent = *transfer.extent;
  StripeMap& stripes = transfer.store->stripes;
  const std::lock_guard lock(transfer.store->mutex);
  for (const TransferState::Move& move : transfer.moves) {
    if (arrived) {
      stripes.release(move.from);
    } else {
      stripes.release(extent.place_of(move.chunk));
      extent.set_place(move.chunk, move.from);
    }
  }
  transfer.moves.clear();
}

bool detail::start_flush(TransferState& transfer) {
  ExtentRecord& extent = *transfer.extent;
  std::ranges::fill(transfer.buffer.subspan(transfer.range.bytes), std::byte{0});
  begin_moves(transfer);
  if (!transfer.submit(aio::OpKind::kWrite, transfer.chunks)) return false;
  extent.begin_flush(transfer.chunks);

  // The disk and the checksums read the source side by side. "Not now" has cost no checksum.
  const ScopedTimer busy(transfer.store->counters, Hop::kFlush, ScopedTimer::Kind::kBusy,
                         extent.name(), transfer.range.bytes);
  for (std::uint64_t chunk = transfer.chunks.first; chunk < transfer.chunks.last; ++chunk) {
    extent.set_checksum(chunk, chunk_checksum(extent.id(), chunk, transfer.chunk_in_buffer(chunk)));
  }
  return true;
}

void detail::end_flush(TransferState& transfer) {
  end_moves(transfer, transfer.error == nullptr);
  transfer.extent->end_flush(transfer.chunks);
}

std::optional<Transfer> flush(ShardStore& store, Extent extent, ByteRange range,
                              std::span<std::byte> source) {
  return store.start_write(extent, range, source);
}

}  // namespace strata::tiering
