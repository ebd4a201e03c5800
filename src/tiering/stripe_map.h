#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "strata/aio/path_meter.h"
#include "strata/aio/stripe.h"
#include "tiering/extent_record.h"

namespace strata::tiering {

/// Buffers, chunks and extents start on multiples of this: the largest alignment that the store
/// takes from a file system.
inline constexpr std::uint64_t kDiskBlock = 4096;

/// The places in use of the store's files, and the path that each chunk should be on.
///
/// A file is a row of slots of one chunk each, and of tails: the last chunk of an extent takes only
/// the blocks that it fills, and stays where it is. With several paths every extent brings, beside
/// its chunks, a reserve of free slots. A chunk that is on the wrong path moves when it is flushed,
/// into a free slot of the right one, so the bytes on the disks are never copied. Thread: one.
class StripeMap {
 public:
  /// An extent may have one free slot for each so many of its whole chunks.
  static constexpr std::uint64_t kChunksPerSpare = 4;

  /// `paths`: measured bandwidths or unknown ones, one for each file.
  StripeMap(std::span<const aio::PathBandwidth> paths, std::uint64_t chunk_bytes);

  /// Disk bytes of an extent, its reserve included.
  [[nodiscard]] static std::uint64_t disk_bytes(std::uint64_t bytes, std::uint64_t chunk_bytes,
                                                std::size_t paths);

  /// The places of a new extent, one for each chunk.
  struct Deal {
    std::uint64_t first_position = 0;  ///< place of its first chunk in the sequence of all
    std::vector<ChunkPlace> places;
    std::uint64_t whole_chunks = 0;  ///< number of whole ones; the rest, if any, is the tail
    std::vector<ChunkPlace> spares;
    std::vector<std::uint64_t> ends;  ///< bytes that each file must have
  };
  /// Room on the disks.
  struct Room {
    std::vector<std::size_t> disk_of_path;
    std::vector<std::uint64_t> bytes_of_disk;
  };
  /// Works out where an extent would go: chunks that their path has no room for go to the path with
  /// most room, if that is enough. Nothing is taken before `adopt`, which takes the last deal only.
  [[nodiscard]] Deal deal(std::uint64_t bytes, Room room) const;
  void adopt(const Deal& deal);

  /// The free slot where a whole chunk that is about to be flushed should go instead of `place`, if
  /// it should move and there is room. The slot is taken then. Allocates nothing.
  [[nodiscard]] std::optional<ChunkPlace> move(std::uint64_t position, ChunkPlace place);
  /// Gives a slot back.
  void release(ChunkPlace slot);

  /// Looks at the meters of the paths. Returns true when `shares` have changed.
  bool rebalance();
  /// Takes these bandwidths as measured.
  void set_bandwidths(std::span<const aio::PathBandwidth> bandwidths);

  [[nodiscard]] std::size_t paths() const noexcept { return files_.size(); }
  /// The meter for the operations of a path; null with one path, which needs no balance.
  [[nodiscard]] aio::PathMeter* meter(std::size_t path) noexcept;
  /// The shares that the paths have room for.
  [[nodiscard]] std::span<const double> shares() const noexcept { return shares_; }
  /// Slots of a file, both in use by chunks and free.
  [[nodiscard]] std::uint64_t used_slots(std::size_t path) const;
  [[nodiscard]] std::uint64_t free_slots(std::size_t path) const;

 private:
  struct File {
    std::uint64_t end = 0;              // bytes that belong to extents
    std::uint64_t slots = 0;            // all slots, used and free
    std::vector<std::uint64_t> free{};  // offsets of free slots; room for all
  };
  /// Takes over the balancer's shares. Returns true when that has changed something.
  bool fit_shares();

  const std::uint64_t chunk_bytes_;
  std::vector<File> files_;
  std::deque<aio::PathMeter> meters_;
  std::vector<aio::PathTotals> totals_;  // totals of the meters, for the balancer
  aio::StripeBalancer balancer_;
  std::vector<double> shares_;    // the balancer's, as far as there is room
  std::vector<double> fitted_;    // the next shares
  std::vector<double> ceilings_;  // the shares that there is room for
  std::uint64_t chunks_ = 0;      // whole chunks of all extents
  std::uint64_t next_position_ = 0;
  std::uint64_t next_spare_ = 0;
};

}  // namespace strata::tiering
