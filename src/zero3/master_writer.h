#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "strata/base/number_format.h"
#include "strata/optim_cpu/compute_threads.h"
#include "strata/tiering/home_transfer.h"
#include "strata/tiering/state_home.h"
#include "zero3/filling_chunks.h"
#include "zero3/shard_map.h"
#include "zero3/writes_in_flight.h"

namespace strata::zero3 {

/// Consecutive fp32 masters, to be had block by block.
struct MasterSource {
  std::uint64_t count;  ///< elements
  std::uint64_t block_elements;
  /// The masters from `begin`, a multiple of `block_elements`, on: as many as `scratch` has room
  /// for, which are `block_elements` or those up to the end. They are in `scratch`, or elsewhere
  /// for as long as the source lives. Called on several threads at once, for a block more than
  /// once.
  std::function<std::span<const float>(std::uint64_t begin, std::span<float> scratch)> block;
};

/// Buffers of blocks, each made when all are on loan. Thread-safe.
class BlockScratch {
 public:
  /// Calls use(buffer of `count` floats) with one that is nobody else's meanwhile.
  template <class Use>
  void with(std::uint64_t count, const Use& use) {
    Buffer buffer = take();
    if (buffer.size() < count) buffer.resize(count);
    use(std::span(buffer).first(count));
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(buffer));
  }

 private:
  using Buffer = std::vector<float>;
  [[nodiscard]] Buffer take();

  std::mutex mutex_;
  std::vector<Buffer> free_;
};

/// Brings the first masters of a flat vector to its homes, as weights and remainders, on all cores:
/// each takes a block from its source, splits it and goes on; the one that completes a chunk takes
/// its checksum and starts its write, and meanwhile chunks before are being written. The bits
/// depend on none of this. Elements that are not written are zeros in the chunks that others of are
/// (homes start as zeros). Thread: the engine's.
///
/// When a call throws, the vector's homes hold nothing of use, and the writer is to be destroyed,
/// which waits for what is under way.
class MasterWriter {
 public:
  /// The means that the vectors of a unit share; they outlive the writer.
  struct Means {
    std::uint64_t chunk_bytes;  ///< the shard store's
    optim_cpu::ComputeThreads& threads;
    BlockScratch& scratch;
    /// Null where no home is elsewhere. Its slots have a chunk each, and are at least as many as
    /// there are homes elsewhere of all the vectors that are written in turn.
    WritesInFlight* writes;
  };

  /// A writer of `count` elements. `master` does not exist where there is only the weight: for
  /// frozen parameters and in fp32. The homes must outlive the writer.
  MasterWriter(const StateFormat& format, std::uint64_t count, const tiering::StateHome& weight,
               const tiering::StateHome& master, const Means& means);

  /// Writes elements `part` of the source to the vector's from `begin` on, which is not before the
  /// end of the last call's. Throws what the source throws, and for a write that failed, of this
  /// call or one before: IoError, DeadlineExceeded.
  void write(std::uint64_t begin, const MasterSource& source, ElementRange part);
  /// Starts the writes that are left; WritesInFlight::wait waits for them. Throws as `write`.
  void finish();

 private:
  [[nodiscard]] std::uint64_t make_room(std::uint64_t begin, ElementRange written);
  void split(std::uint64_t begin, std::span<const float> masters);

  StateFormat format_;
  std::uint64_t count_;
  Means means_;
  FillingChunks weight_, master_;
};

}  // namespace strata::zero3
