#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "strata/aio/io_file.h"
#include "strata/aio/submitter.h"
#include "strata/base/counters.h"
#include "strata/tiering/shard_store.h"
#include "tiering/extent_record.h"
#include "tiering/stripe_map.h"

namespace strata::tiering::detail {

/// The parts of a store that its transfers use.
struct StoreParts {
  aio::Submitter& queue;
  Counters& counters;
  StripeMap stripes;
  std::vector<aio::IoFile> files;  ///< one for each path of the stripes
  std::uint64_t alignment = 512;   ///< alignment of transfers: the largest of the files
  std::mutex mutex{};              ///< guards `stripes` and the transfers at rest

  [[nodiscard]] std::uint64_t buffer_bytes(std::uint64_t bytes) const noexcept;
};

class Transfers;

/// A fetch or a flush. Its life is in transfer_state.cpp, from one line to the next:
///
///     at rest --check out--> at hand --start--> under way --finish--> at rest
///                             |
///                             +------ "not now": nothing started ---> at rest
///
/// The parts of start and finish that only a fetch has are in fetch.cpp; a flush's in flush.cpp.
/// Once the queue has accepted the first operation, every error is kept for `finish` to throw.
struct TransferState {
  Transfers* owner = nullptr;
  StoreParts* store = nullptr;
  Hop hop = Hop::kFetch;
  ExtentRecord* extent = nullptr;
  ChunkSpan chunks;
  ByteRange range;
  std::span<std::byte> buffer;
  std::vector<aio::IoTicket> tickets;  ///< its operations in the I/O queue
  std::size_t settled = 0;             ///< tickets waited for, from the front
  std::exception_ptr error;            ///< the first error
  aio::RequestTimes times;             ///< known while spans are recorded
  struct Move {
    std::uint64_t chunk;
    ChunkPlace from;
  };
  std::vector<Move> moves;  ///< chunks that a flush writes to new places

  /// The published bytes of one of its chunks, in the buffer.
  [[nodiscard]] std::span<std::byte> chunk_in_buffer(std::uint64_t chunk) const noexcept;

  /// Hands the queue the operations for some of the chunks, as few as the layout allows. Returns
  /// false, with nothing started, when the first finds the queue full. Later ones wait for room, on
  /// this transfer's own operations first: operations that this thread has not waited for may be
  /// what fills the queue.
  [[nodiscard]] bool submit(aio::OpKind kind, ChunkSpan some);

  [[nodiscard]] bool done() const noexcept;

  /// Waits for every operation, verifies a fetch, lets go of the extent's chunks, counts, and goes
  /// back to its owner. Throws the first error.
  void finish();

 private:
  [[nodiscard]] bool submit(const aio::Operation& operation);
  void settle_next();
  void record() const;
};

struct PutToRest {
  void operator()(TransferState* transfer) const noexcept;
};
using TransferLease = std::unique_ptr<TransferState, PutToRest>;

/// The transfers of a store: as many as may be under way at once, made at the start and lent
/// afterwards.
class Transfers {
 public:
  Transfers(StoreParts& store, std::size_t count);

  /// Starts a transfer, or returns nullopt for "not now". Throws UsageError for a range off the
  /// chunk grid, a bad buffer, or chunks that another transfer is at.
  [[nodiscard]] std::optional<Transfer> start(Hop hop, ExtentRecord& extent, ByteRange range,
                                              std::span<std::byte> buffer);

  /// Whether all are under way.
  [[nodiscard]] bool is_exhausted() const noexcept;
  /// A number for one of the transfers; those that are lent first have the lowest.
  [[nodiscard]] std::uint32_t slot_of(const TransferState& transfer) const noexcept {
    return static_cast<std::uint32_t>(&states_.back() - &transfer);
  }

 private:
  friend struct PutToRest;
  [[nodiscard]] TransferLease take_one();
  /// A transfer of a checked range, with its chunks; empty when all are under way.
  [[nodiscard]] TransferLease check_out(Hop hop, ExtentRecord& extent, ByteRange range,
                                        std::span<std::byte> buffer);

  StoreParts& store_;
  std::vector<TransferState> states_;
  std::vector<TransferState*> at_rest_;
};

// ---- fetch.cpp --------------------------------------------------------------------------------

/// Reads the chunks that were ever written and fills the others with zeros. False for "not now".
[[nodiscard]] bool start_fetch(TransferState& transfer);
/// Ends a fetch, whether the bytes have arrived or not.
void end_fetch(TransferState& transfer);
/// Compares every written chunk with its checksum. Throws CorruptData.
void verify_fetch(const TransferState& transfer);

// ---- flush.cpp --------------------------------------------------------------------------------

/// Writes the chunks to the places that the paths' shares call for, and takes their checksums.
/// False for "not now".
[[nodiscard]] bool start_flush(TransferState& transfer);
/// Ends a flush, whether the bytes have arrived or not.
void end_flush(TransferState& transfer);
/// Frees the places that moved chunks had, or goes back to them when the bytes have not arrived.
void end_moves(TransferState& transfer, bool arrived);

}  // namespace strata::tiering::detail
