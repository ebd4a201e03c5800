#include <algorithm>

#include "strata/tiering/movement.h"
#include "tiering/checksum.h"
#include "tiering/shard_store_impl.h"

namespace strata::tiering {

std::optional<Transfer> ShardStore::start_write(Extent extent, ByteRange range,
                                                std::span<std::byte> source) {
  detail::TransferLease transfer = impl_->prepare(Hop::kFlush, extent, range, source);
  if (transfer == nullptr) return std::nullopt;
  ExtentRecord& record = *transfer->extent;
  std::ranges::fill(transfer->buffer.subspan(range.bytes), std::byte{0});
  impl_->rebalance();
  transfer->begin_moves();
  if (!impl_->submit(*transfer, aio::OpKind::kWrite, transfer->chunks)) {
    transfer->end_moves(/*arrived=*/false);
    return std::nullopt;
  }
  record.begin_flush(transfer->chunks);

  // The disk and the checksums read the source side by side. "Not now" has cost no checksum.
  const ScopedTimer busy(impl_->counters, Hop::kFlush, ScopedTimer::Kind::kBusy);
  for (std::uint64_t chunk = transfer->chunks.first; chunk < transfer->chunks.last; ++chunk) {
    record.set_checksum(chunk, chunk_checksum(extent.id, chunk, transfer->chunk_in_buffer(chunk)));
  }
  return Transfer(transfer.release());
}

std::optional<Transfer> flush(ShardStore& store, Extent extent, ByteRange range,
                              std::span<std::byte> source) {
  return store.start_write(extent, range, source);
}

}  // namespace strata::tiering
