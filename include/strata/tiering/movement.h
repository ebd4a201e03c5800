#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "strata/base/counters.h"
#include "strata/tiering/device_copy.h"
#include "strata/tiering/shard_store.h"

/// \file
/// The four movements between tiers, one file each: fetch and flush between nvme and pinned host
/// memory, upload and drain between pinned host memory and the device.

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
/// past `range.bytes` may be overwritten with zeros. Not now and errors: those of fetch.
[[nodiscard]] std::optional<Transfer> flush(ShardStore& store, Extent extent, ByteRange range,
                                            std::span<std::byte> source);

/// Copies pinned host memory to the device (hop 2), on the stream of uploads.
///
/// Returns at once; `pinned` is lent until the copy is done, `target` belongs to that stream: its
/// next user waits for the copy's event. The stream must have been ordered behind its earlier
/// users. Errors: those of Device::copy_to_device; from wait: DeviceError, DeadlineExceeded.
[[nodiscard]] DeviceCopy upload(Device& device, std::span<const std::byte> pinned,
                                DeviceSpan target, Counters& counters);

/// Copies device memory to pinned host memory (hop 6), on the stream of drains. Contract: upload's.
[[nodiscard]] DeviceCopy drain(Device& device, DeviceSpan source, std::span<std::byte> pinned,
                               Counters& counters);

}  // namespace strata::tiering
