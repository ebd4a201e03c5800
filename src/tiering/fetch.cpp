#include <algorithm>
#include <cstdio>
#include <string>

#include "strata/base/error.h"
#include "strata/tiering/movement.h"
#include "tiering/checksum.h"
#include "tiering/shard_store_impl.h"

namespace strata::tiering {
namespace {

std::string hex(std::uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

[[noreturn]] void fail_corrupt(const detail::TransferState& transfer, std::uint64_t chunk,
                               std::uint64_t found) {
  const ExtentRecord& extent = *transfer.extent;
  const ChunkPlace place = extent.place_of(chunk);
  throw CorruptData("fetch of " + extent.name() + ", chunk " + std::to_string(chunk) + " (" +
                    std::to_string(transfer.chunk_in_buffer(chunk).size()) +
                    " bytes): " + (*transfer.files)[place.file].path().string() + " at offset " +
                    std::to_string(place.offset) +
                    " holds other bytes than were written: checksum " + hex(found) + ", written " +
                    hex(extent.checksum(chunk)) +
                    "; check the disk (smartctl, dmesg) and start the run again");
}

}  // namespace

void detail::verify_fetch(const TransferState& transfer) {
  const ScopedTimer busy(*transfer.counters, Hop::kFetch, ScopedTimer::Kind::kBusy);
  const ExtentRecord& extent = *transfer.extent;
  for (std::uint64_t chunk = transfer.chunks.first; chunk < transfer.chunks.last; ++chunk) {
    if (!extent.written(chunk)) continue;
    const std::uint64_t found = chunk_checksum(extent.id(), chunk, transfer.chunk_in_buffer(chunk));
    if (found != extent.checksum(chunk)) fail_corrupt(transfer, chunk, found);
  }
}

std::optional<Transfer> ShardStore::start_read(Extent extent, ByteRange range,
                                               std::span<std::byte> target) {
  detail::TransferLease transfer = impl_->prepare(Hop::kFetch, extent, range, target);
  if (transfer == nullptr) return std::nullopt;
  ExtentRecord& record = *transfer->extent;
  for (ChunkSpan rest = transfer->chunks; rest.first < rest.last;) {
    const ChunkSpan run = record.leading_run(rest);
    if (record.written(run.first)) {
      if (!impl_->submit(*transfer, aio::OpKind::kRead, run)) return std::nullopt;
    } else {
      for (std::uint64_t chunk = run.first; chunk < run.last; ++chunk) {
        std::ranges::fill(transfer->chunk_in_buffer(chunk), std::byte{0});
      }
    }
    rest.first = run.last;
  }
  record.begin_fetch(transfer->chunks);
  return Transfer(transfer.release());
}

std::optional<Transfer> fetch(ShardStore& store, Extent extent, ByteRange range,
                              std::span<std::byte> target) {
  return store.start_read(extent, range, target);
}

}  // namespace strata::tiering
