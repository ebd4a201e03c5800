#pragma once

#include <cstdint>
#include <vector>

#include "strata/base/number_format.h"

/// \file
/// The elements of a unit's flat vector that each rank keeps: arithmetic on counts, nothing else.

namespace strata::zero3 {

/// Consecutive elements of a vector: [begin, end).
struct ElementRange {
  std::uint64_t begin = 0, end = 0;
  [[nodiscard]] std::uint64_t count() const { return end - begin; }
  bool operator==(const ElementRange&) const = default;
};

/// The part of a range of elements that lies in one rank's shard.
struct ShardPart {
  int rank = 0;
  std::uint64_t begin_in_shard = 0;  ///< elements from the beginning of the shard
  std::uint64_t begin_in_range = 0;  ///< elements from the beginning of the range
  std::uint64_t count = 0;           ///< at least 1
  bool operator==(const ShardPart&) const = default;
};

/// The cuts of a flat vector of `count` elements into one shard for each rank. All shards have the
/// same number of elements, a multiple of kGridElements, and follow each other in rank order:
///
///     count = 300, three ranks: shards of 128 elements, 384 in all
///
///     element  0        128       256   300   384
///     rank     |    0    |    1    |    2      |
///                                        ~~~~~~  tail padding
///
/// Tail padding lies behind the vector's last element, so that gathering is one collective of equal
/// shards. It belongs to no parameter; whoever packs a vector fills it with zeros. A vector that is
/// short for its world leaves the last ranks with padding alone. Padding inside of the vector,
/// which its layout puts between parameters, counts as elements here.
class ShardMap {
 public:
  /// Blocks of int8 moments and of sums of squares (see SumOfSquares) are never cut.
  static constexpr std::uint64_t kGridElements = kMomentBlockElements;

  /// Throws UsageError for a world without ranks, and for a vector whose shards together have more
  /// than 2^63 elements.
  ShardMap(std::uint64_t count, int world_size);

  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] int world_size() const { return world_size_; }
  /// Elements of every shard, tail padding included; 0 only where the vector is empty.
  [[nodiscard]] std::uint64_t shard_count() const { return shard_count_; }
  /// Elements of all shards: what a gathered vector has room for.
  [[nodiscard]] std::uint64_t padded_count() const {
    return shard_count_ * static_cast<std::uint64_t>(world_size_);
  }

  /// The elements of a rank's shard, tail padding included; [k, k + shard_count()). The first one
  /// is the shard's place in its vector, which keys random rounding.
  [[nodiscard]] ElementRange shard(int rank) const;
  /// The elements of the shard that the vector has; empty for a rank beyond its end.
  [[nodiscard]] ElementRange held(int rank) const;
  /// The elements of the shard that are tail padding.
  [[nodiscard]] ElementRange padding(int rank) const;

  /// The rank whose shard has `element`, one below padded_count().
  [[nodiscard]] int rank_of(std::uint64_t element) const;

  /// The parts, in rank order, of a range of elements (a parameter, for one); none for
  /// an empty range. The range lies below padded_count().
  [[nodiscard]] std::vector<ShardPart> parts_of(ElementRange range) const;
  /// The elements of `range` that lie in a rank's shard; empty where none does.
  [[nodiscard]] ElementRange part_of(ElementRange range, int rank) const;

 private:
  std::uint64_t count_;
  int world_size_;
  std::uint64_t shard_count_;
};

}  // namespace strata::zero3
