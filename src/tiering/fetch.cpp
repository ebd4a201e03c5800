#include <algorithm>
#include <cstdio>
#include <string>

#include "strata/base/error.h"
#include "strata/tiering/checksum.h"
#include "strata/tiering/movement.h"
#include "tiering/transfer_state.h"

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
                    " bytes): " + transfer.store->files[place.file].path().string() +
                    " at offset " + std::to_string(place.offset) +
                    " holds other bytes than were written: checksum " + hex(found) + ", written " +
                    hex(extent.checksum(chunk)) +
                    "; check the disk (smartctl, dmesg) and start the run again");
}

}  // namespace

bool detail::start_fetch(TransferState& transfer) {
  ExtentRecord& extent = *transfer.extent;
  for (ChunkSpan rest = transfer.chunks; rest.first < rest.last;) {
    const ChunkSpan run = extent.leading_run(rest);
    if (extent.written(run.first)) {
      if (!transfer.submit(aio::OpKind::kRead, run)) return false;
    } else {
      for (std::uint64_t chunk = run.first; chunk < run.last; ++chunk) {
        std::ranges::fill(transfer.chunk_in_buffer(chunk), std::byte{0});
      }
    }
    rest.first = run.last;
  }
  extent.begin_fetch(transfer.chunks);
  return true;
}

void detail::end_fetch(TransferState& transfer) { transfer.extent->end_fetch(transfer.chunks); }

void detail::verify_fetch(const TransferState& transfer) {
  const ExtentRecord& extent = *transfer.extent;
  const ScopedTimer busy(transfer.store->counters, Hop::kFetch, ScopedTimer::Kind::kBusy,
                         extent.name(), transfer.range.bytes);
  for (std::uint64_t chunk = transfer.chunks.first; chunk < transfer.chunks.last; ++chunk) {
    if (!extent.written(chunk)) continue;
    const std::uint64_t found = chunk_checksum(extent.id(), chunk, transfer.chunk_in_buffer(chunk));
    if (found != extent.checksum(chunk)) fail_corrupt(transfer, chunk, found);
  }
}

std::optional<Transfer> fetch(ShardStore& store, Extent extent, ByteRange range,
                              std::span<std::byte> target) {
  return store.start_read(extent, range, target);
}

}  // namespace strata::tiering
