#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "strata/base/counters.h"
#include "strata/tiering/shard_store.h"

/// \file
/// The four movements between tiers, one file each: fetch and flush between nvme and pinned host
/// memory, upload and drain between pinned host memory and the device. On a machine without a GPU
/// the device is host memory and upload and drain are copies.

namespace strata::tiering {

/// Reads one range of an extent into pinned memory (hop 1, fetch).
///
/// Returns at once. `target` (at least `store.buffer_bytes(range.bytes)`, aligned to 4096) is lent
/// to the store until the Transfer is done; its bytes are undefined before that, and only
/// `range.bytes` of them are published. Not now: nullopt when the I/O queue is full; nothing was
/// started. A transfer starts whole: one that is several operations (a range over several
/// directories) waits here for the queue to have room for the rest once its first is accepted.
/// Throws UsageError for a range off the chunk grid, a buffer too small, or bytes being flushed;
/// from wait: IoError, DeadlineExceeded, CorruptData. After DeadlineExceeded `target` is never to
/// be used again: the kernel may still write to it.
[[nodiscard]] std::optional<Transfer> fetch(ShardStore& store, Extent extent, ByteRange range,
                                            std::span<std::byte> target);

/// Writes pinned memory to one range of an extent (hop 8, flush).
///
/// Returns at once; the checksums are taken from `source` before it returns. `source` has the size
/// and alignment of fetch's `target`, is lent to the store until the Transfer is done, and bytes
/// past `range.bytes` may be overwritten with zeros. Not now and errors: as fetch.
[[nodiscard]] std::optional<Transfer> flush(ShardStore& store, Extent extent, ByteRange range,
                                            std::span<std::byte> source);

/// Copies pinned host memory to the device (hop 2). Both spans have the same length and do not
/// overlap. Done when it returns.
void upload(std::span<const std::byte> pinned, std::span<std::byte> device, Counters& counters);

/// Copies device memory to pinned host memory (hop 6). As upload.
void drain(std::span<const std::byte> device, std::span<std::byte> pinned, Counters& counters);

}  // namespace strata::tiering
