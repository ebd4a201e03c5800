#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string_view>
#include <vector>

#include "strata/tiering/shard_store.h"
#include "tiering/extent_record.h"
#include "tiering/stripe_map.h"
#include "tiering/transfer_state.h"

namespace strata::tiering {

/// What fetch.cpp and flush.cpp share of the store.
struct ShardStore::Impl {
  Impl(const Options& options, aio::Submitter& submitter, Budget& nvme_budget,
       Counters& hop_counters);

  /// Allocates the blocks of a new extent where there is room for them. Throws IoError.
  StripeMap::Deal allocate_on_disk(std::uint64_t bytes, std::string_view name);
  [[nodiscard]] StripeMap::Room room() const;

  /// Follows the directories' bandwidths; says so when their shares change.
  void rebalance();

  /// A transfer of a checked range, with its chunks, ready for `submit`; empty for "not now".
  /// Throws UsageError for an unknown extent, a range off the chunk grid or a bad buffer.
  detail::TransferLease prepare(Hop hop, Extent extent, ByteRange range,
                                std::span<std::byte> buffer);

  /// Submits the operations for some of a transfer's chunks, as few as the layout allows. Returns
  /// false, with nothing started, for "not now".
  [[nodiscard]] bool submit(detail::TransferState& transfer, aio::OpKind kind, ChunkSpan chunks);

  [[nodiscard]] std::uint64_t buffer_bytes(std::uint64_t bytes) const noexcept;

  aio::Submitter& queue;
  Budget& nvme;
  Counters& counters;
  const std::uint64_t chunk_bytes;
  std::uint32_t alignment = 512;
  std::vector<aio::IoFile> files;
  std::vector<aio::IoPreparation> prepared_files;  ///< where the queue's backend can
  StripeMap stripes;
  Logger* log;  ///< null: nobody is told
  std::deque<ExtentRecord> extents;
  std::vector<Reservation> reservations;
  detail::TransferPool transfers;
};

}  // namespace strata::tiering
