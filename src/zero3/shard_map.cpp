#include "zero3/shard_map.h"

#include <algorithm>
#include <string>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::zero3 {
namespace {

constexpr std::uint64_t kElementsMax = std::uint64_t{1} << 63;

ElementRange intersection(ElementRange a, ElementRange b) {
  const std::uint64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

}  // namespace

ShardMap::ShardMap(std::uint64_t count, int world_size)
    : count_(count), world_size_(world_size), shard_count_(0) {
  if (world_size < 1) {
    throw UsageError("a vector cannot be cut into shards for " + std::to_string(world_size) +
                     " ranks; a world has at least one");
  }
  const auto ranks = static_cast<std::uint64_t>(world_size);
  // Checked before it is rounded up: counts that are refused here could overflow there.
  if (count > kElementsMax - ranks * kGridElements) {
    throw UsageError("a vector of " + std::to_string(count) +
                     " elements is too long to be cut for " + std::to_string(world_size) +
                     " ranks: its shards would have more than 2^63");
  }
  shard_count_ = round_up(ceil_div(count, ranks), kGridElements);
}

ElementRange ShardMap::shard(int rank) const {
  STRATA_CHECK(rank >= 0 && rank < world_size_,
               "rank " + std::to_string(rank) + " of " + std::to_string(world_size_));
  const std::uint64_t begin = shard_count_ * static_cast<std::uint64_t>(rank);
  return {begin, begin + shard_count_};
}

ElementRange ShardMap::held(int rank) const { return part_of({0, count_}, rank); }

ElementRange ShardMap::padding(int rank) const {
  const ElementRange all = shard(rank);
  return {std::clamp(count_, all.begin, all.end), all.end};
}

int ShardMap::rank_of(std::uint64_t element) const {
  STRATA_CHECK(element < padded_count(),
               "element " + std::to_string(element) + " of " + std::to_string(padded_count()));
  return static_cast<int>(element / shard_count_);
}

std::vector<ShardPart> ShardMap::parts_of(ElementRange range) const {
  std::vector<ShardPart> parts;
  if (range.begin >= range.end) return parts;
  const int last = rank_of(range.end - 1);
  for (int rank = rank_of(range.begin); rank <= last; ++rank) {
    const ElementRange part = part_of(range, rank);
    parts.push_back({.rank = rank,
                     .begin_in_shard = part.begin - shard(rank).begin,
                     .begin_in_range = part.begin - range.begin,
                     .count = part.count()});
  }
  return parts;
}

ElementRange ShardMap::part_of(ElementRange range, int rank) const {
  const ElementRange part = intersection(range, shard(rank));
  if (part.count() > 0) return part;
  const std::uint64_t nowhere = shard(rank).begin;
  return {nowhere, nowhere};
}

}  // namespace strata::zero3
