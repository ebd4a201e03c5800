#include "zero3/shard_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <vector>

#include "strata/base/error.h"

namespace strata::zero3::shard_map_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

constexpr std::uint64_t kGrid = ShardMap::kGridElements;

/// Calls `check` with vectors of all small counts and of many others, for worlds of 1 to 9 ranks
/// and for some that are larger.
template <class Check>
void for_many_maps(Check check) {
  std::mt19937_64 random(20);
  for (const int world : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 64, 1000}) {
    for (std::uint64_t count = 0; count < 200; ++count) check(ShardMap(count, world));
    for (int i = 0; i < 200; ++i) {
      const std::uint64_t most = std::uint64_t{1} << (random() % 50);
      check(ShardMap(random() % most + most % 2, world));
    }
    const std::uint64_t shards = kGrid * static_cast<std::uint64_t>(world);
    for (const std::uint64_t count : {shards - 1, shards, shards + 1, 3 * shards + 1})
      check(ShardMap(count, world));
  }
}

TEST(ShardMap, EveryElementLiesInExactlyOneShard) {
  for_many_maps([](const ShardMap& map) {
    std::uint64_t next = 0;
    std::uint64_t held = 0;
    for (int rank = 0; rank < map.world_size(); ++rank) {
      ASSERT_EQ(map.shard(rank).begin, next);
      next = map.shard(rank).end;
      held += map.held(rank).count();
      if (map.shard_count() == 0) continue;
      ASSERT_EQ(map.rank_of(map.shard(rank).begin), rank);
      ASSERT_EQ(map.rank_of(next - 1), rank);
    }
    ASSERT_EQ(next, map.padded_count());
    ASSERT_EQ(held, map.count());
    ASSERT_GE(map.padded_count(), map.count());
  });
}

TEST(ShardMap, ShardsAreEqualAndBeginOnTheGrid) {
  for_many_maps([](const ShardMap& map) {
    ASSERT_EQ(map.shard_count() % kGrid, 0u);
    for (int rank = 0; rank < map.world_size(); ++rank) {
      ASSERT_EQ(map.shard(rank).count(), map.shard_count());
      ASSERT_EQ(map.shard(rank).begin % kGrid, 0u);
    }
  });
}

TEST(ShardMap, PaddingLiesBehindTheLastElementAndIsLessThanABlockForEachRank) {
  for_many_maps([](const ShardMap& map) {
    const auto ranks = static_cast<std::uint64_t>(map.world_size());
    ASSERT_LT(map.padded_count() - map.count(), ranks * kGrid);
    for (int rank = 0; rank < map.world_size(); ++rank) {
      ASSERT_EQ(map.held(rank).count() + map.padding(rank).count(), map.shard_count());
      ASSERT_EQ(map.padding(rank).end, map.shard(rank).end);
      ASSERT_TRUE(map.padding(rank).count() == 0 || map.padding(rank).begin >= map.count());
      ASSERT_TRUE(map.held(rank).count() == 0 || map.held(rank).end <= map.count());
    }
  });
}

TEST(ShardMap, OneRankHasTheWholeVectorWhereItLies) {
  for (std::uint64_t count = 0; count < 10 * kGrid; count += kGrid) {
    const ShardMap map(count, 1);
    EXPECT_EQ(map.shard(0), (ElementRange{0, count}));
    EXPECT_EQ(map.padding(0).count(), 0u);
  }
}

TEST(ShardMap, TheDrawingInTheHeaderIsTrue) {
  const ShardMap map(300, 3);
  EXPECT_EQ(map.shard_count(), 128u);
  EXPECT_EQ(map.padded_count(), 384u);
  EXPECT_EQ(map.held(2), (ElementRange{256, 300}));
  EXPECT_EQ(map.padding(2), (ElementRange{300, 384}));
}

TEST(ShardMap, RanksBeyondTheEndOfAShortVectorHavePaddingAlone) {
  const ShardMap map(65, 8);
  EXPECT_EQ(map.shard_count(), 64u);
  EXPECT_EQ(map.held(0), (ElementRange{0, 64}));
  EXPECT_EQ(map.held(1), (ElementRange{64, 65}));
  for (int rank = 2; rank < 8; ++rank) {
    EXPECT_EQ(map.held(rank).count(), 0u);
    EXPECT_EQ(map.padding(rank), map.shard(rank));
  }
}

TEST(ShardMap, AnEmptyVectorHasEmptyShards) {
  const ShardMap map(0, 5);
  EXPECT_EQ(map.padded_count(), 0u);
  for (int rank = 0; rank < 5; ++rank) EXPECT_EQ(map.shard(rank), ElementRange{});
  EXPECT_THAT(map.parts_of({0, 0}), IsEmpty());
}

TEST(ShardMap, ThePartsOfARangeAreTheRangeInOrder) {
  std::mt19937_64 random(21);
  for_many_maps([&](const ShardMap& map) {
    if (map.count() == 0) return;
    const std::uint64_t begin = random() % map.count();
    const ElementRange range{begin, begin + 1 + random() % (map.count() - begin)};
    std::uint64_t next = range.begin;
    for (const ShardPart& part : map.parts_of(range)) {
      ASSERT_GT(part.count, 0u);
      ASSERT_EQ(range.begin + part.begin_in_range, next);
      ASSERT_EQ(map.shard(part.rank).begin + part.begin_in_shard, next);
      ASSERT_EQ(map.part_of(range, part.rank), (ElementRange{next, next + part.count}));
      next += part.count;
      ASSERT_LE(next, map.shard(part.rank).end);
    }
    ASSERT_EQ(next, range.end);
  });
}

TEST(ShardMap, NamesThePartsOfAParameterThatIsCutTwice) {
  const ShardMap map(300, 3);
  EXPECT_THAT(
      map.parts_of({100, 290}),
      ElementsAre(ShardPart{0, 100, 0, 28}, ShardPart{1, 0, 28, 128}, ShardPart{2, 0, 156, 34}));
  EXPECT_THAT(map.parts_of({7, 7}), IsEmpty());
}

TEST(ShardMap, ARankWithoutAPartOfARangeHasNoneOfIt) {
  const ShardMap map(300, 3);
  EXPECT_EQ(map.part_of({10, 20}, 1).count(), 0u);
  EXPECT_EQ(map.part_of({290, 300}, 1).count(), 0u);
}

TEST(ShardMap, RefusesAWorldWithoutRanksAndAVectorWithoutEnd) {
  for (const int world : {0, -1}) {
    EXPECT_THAT([&] { ShardMap(100, world); },
                ThrowsMessage<UsageError>(HasSubstr("at least one")));
  }
  EXPECT_THAT([] { ShardMap(UINT64_MAX - 3, 2); }, ThrowsMessage<UsageError>(HasSubstr("2^63")));
}

}  // namespace
}  // namespace strata::zero3::shard_map_test
