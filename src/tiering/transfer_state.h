#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <vector>

#include "strata/aio/io_file.h"
#include "strata/aio/submitter.h"
#include "strata/base/counters.h"
#include "strata/tiering/shard_store.h"
#include "tiering/extent_record.h"
#include "tiering/stripe_map.h"

namespace strata::tiering::detail {

class TransferPool;

/// A fetch or flush under way: its operations in the I/O queue and the first error among them.
/// Once the first operation is accepted, every error is kept for `finish` to throw.
struct TransferState {
  TransferPool* pool = nullptr;
  Hop hop = Hop::kFetch;
  ExtentRecord* extent = nullptr;
  StripeMap* stripes = nullptr;
  const std::vector<aio::IoFile>* files = nullptr;
  Counters* counters = nullptr;
  ChunkSpan chunks;
  ByteRange range;
  std::span<std::byte> buffer;
  std::vector<aio::IoTicket> tickets;
  std::size_t settled = 0;  ///< tickets waited for, from the front
  std::exception_ptr error;
  struct Move {
    std::uint64_t chunk;
    ChunkPlace from;
  };
  std::vector<Move> moves;  ///< of a flush: chunks that it writes to other places than they had

  /// The published bytes of one of its chunks, in the buffer.
  [[nodiscard]] std::span<std::byte> chunk_in_buffer(std::uint64_t chunk) const noexcept;

  /// Hands the operation to the queue. Returns false, with nothing started, when it is the first
  /// and the queue is full. Later ones wait for room, on this transfer's own operations first: what
  /// this thread has not waited for may be what fills the queue.
  [[nodiscard]] bool submit(aio::Submitter& queue, const aio::Operation& operation);

  [[nodiscard]] bool done() const noexcept;

  /// Gives chunks of a flush the places where their paths' shares want them.
  void begin_moves();
  /// Frees the places that they had, or goes back to them when the bytes have not arrived.
  void end_moves(bool arrived);

  /// Waits for every operation, verifies a fetch, lets go of the extent's chunks, counts, and goes
  /// back to the pool. Throws the first error.
  void finish();

 private:
  void settle_next();
};

/// Compares every written chunk of a fetch with its checksum. Throws CorruptData.
void verify_fetch(const TransferState& transfer);

struct ReturnToPool {
  void operator()(TransferState* state) const noexcept;
};
using TransferLease = std::unique_ptr<TransferState, ReturnToPool>;

/// The transfers that may be under way at once, made at the start and lent afterwards.
class TransferPool {
 public:
  explicit TransferPool(std::size_t count);
  /// Empty when all are under way.
  [[nodiscard]] TransferLease try_acquire();
  [[nodiscard]] bool is_exhausted() const noexcept { return free_.empty(); }

 private:
  friend struct ReturnToPool;
  std::vector<TransferState> states_;
  std::vector<TransferState*> free_;
};

}  // namespace strata::tiering::detail
