#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "strata/aio/path_meter.h"
#include "strata/aio/submitter.h"
#include "strata/base/counters.h"
#include "strata/base/log.h"
#include "strata/tiering/budget.h"
#include "strata/tiering/extent.h"
#include "strata/tiering/transfer.h"

namespace strata::tiering {

/// A directory's part of the store.
struct DirectoryUse {
  double share = 0;  ///< intended part of the chunks, 0 to 1
  std::uint64_t chunks =
      0;  ///< whole ones that lie there now or are being flushed to or from there
  std::uint64_t spares = 0;  ///< free places for more
};

/// The nvme tier: extents in one scratch file per directory, with a checksum per chunk kept in
/// memory.
///
/// The chunks of an extent are dealt to the directories evenly, in proportion to their bandwidths;
/// chunks that a directory has no room for go to the one with most room.
/// The store goes on measuring the bandwidths; when a directory becomes slower or faster than its
/// share for good, the shares change, and chunks move to the right directory as they are flushed.
/// For that each extent brings free places for a quarter of its whole chunks, rounded down (one of
/// fewer than four brings none, and relocates only into those of others), so a directory can take
/// up to 5/4 of what it began with. Where chunks lie never changes what they hold. None of this
/// applies to a single directory.
///
/// An extent's blocks are allocated on the disk when it is made, and charged to the nvme budget: no
/// write can run out of room later. An extent reads as zeros until it is written, without touching
/// the disk. After a flush that failed, a fetch gives the new bytes or CorruptData. Order: a
/// transfer ends when it has been waited for; until then a fetch of bytes being flushed is a
/// UsageError, and so is a flush of bytes being fetched or flushed. At most the queue's
/// `operations_max` transfers are under way at once. Thread: any, for the transfers of different
/// chunks; threads that turn to the same chunk settle the order of their calls between themselves,
/// and one alone makes extents, while no other calls. Over an IoQueue transfers
/// progress by themselves; over an IoChannel, which is for one thread, while that waits or asks
/// whether one is done. The queue, budget and counters must outlive the store, the store its
/// transfers.
class ShardStore {
 public:
  struct Options {
    std::vector<std::filesystem::path> directories;  ///< at least one; each must exist
    std::uint64_t chunk_bytes = 1u << 20;            ///< checksum and stripe; a multiple of 4096
    /// Bandwidth of each directory, from `aio::try_paths`; empty or unknown: equal until measured.
    std::vector<aio::PathBandwidth> bandwidths{};
    Logger* log = nullptr;  ///< told when the shares change; null: no messages
  };

  /// Throws ConfigError (no directory or more than 64, bad chunk, a file system whose transfers
  /// must be aligned to more than 4096), UsageError (bandwidths of other directories) and IoError
  /// (a directory that is missing or read-only).
  ShardStore(const Options& options, aio::Submitter& queue, Budget& nvme, Counters& counters);
  ~ShardStore();
  ShardStore(const ShardStore&) = delete;
  ShardStore& operator=(const ShardStore&) = delete;

  /// Makes an extent of `bytes` (> 0). `name` appears in messages ("blocks.3 m").
  /// Throws BudgetError when the nvme budget cannot hold it, IoError (ENOSPC, with what is free)
  /// when the disk cannot.
  [[nodiscard]] Extent allocate(std::uint64_t bytes, std::string_view name);

  /// Bytes a buffer must have for a range of `bytes`: rounded up to the files' alignment.
  [[nodiscard]] std::uint64_t buffer_bytes(std::uint64_t bytes) const noexcept;
  [[nodiscard]] std::uint64_t chunk_bytes() const noexcept;
  /// Disk bytes that an extent of `bytes` takes and is charged for, for plans: whole blocks and,
  /// with several directories, the free places that it brings.
  [[nodiscard]] static std::uint64_t disk_bytes(std::uint64_t bytes, std::uint64_t chunk_bytes,
                                                std::size_t directories);

  /// After "not now": waits at most `timeout` for the queue to have room for a transfer. False when
  /// waiting does not help: the time is over, or as many transfers as there may be have been
  /// started and not been waited for.
  [[nodiscard]] bool wait_for_room(std::chrono::nanoseconds timeout);
  /// The timeout of callers that can only wait: a disk that makes no room for so long is stuck.
  static constexpr std::chrono::seconds kPatience{90};

  /// Takes these as the directories' bandwidths, in place of what was measured so far. Throws
  /// UsageError when there are more or fewer than directories.
  void set_bandwidths(std::span<const aio::PathBandwidth> bandwidths);
  /// The use of each directory, in the order of the options.
  [[nodiscard]] std::vector<DirectoryUse> directories() const;
  /// The queue's lost memory, for the owners of buffers (`HostArena::heed`).
  [[nodiscard]] std::shared_ptr<const aio::LostMemory> lost_memory() const noexcept;

  /// Start the transfers of `fetch` and `flush` in movement.h: call those instead.
  [[nodiscard]] std::optional<Transfer> start_read(Extent extent, ByteRange range,
                                                   std::span<std::byte> target);
  [[nodiscard]] std::optional<Transfer> start_write(Extent extent, ByteRange range,
                                                    std::span<std::byte> source);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace strata::tiering
