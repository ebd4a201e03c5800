#include "tiering/stripe_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <utility>

#include "strata/base/units.h"

namespace strata::tiering::stripe_map_test {
namespace {

using aio::OpKind;
using aio::PathBandwidth;

constexpr std::uint64_t kChunk = 64_KiB;

std::uint64_t ends_of(const StripeMap::Deal& deal) {
  return std::accumulate(deal.ends.begin(), deal.ends.end(), std::uint64_t{0});
}

/// Disks without end, one under each path.
StripeMap::Room plenty(std::size_t paths) {
  StripeMap::Room room;
  for (std::size_t i = 0; i < paths; ++i) {
    room.disk_of_path.push_back(i);
    room.bytes_of_disk.push_back(1ull << 60);
  }
  return room;
}

std::uint64_t bytes_on(const StripeMap::Deal& deal, std::size_t path) { return deal.ends[path]; }

/// A map and what the store would keep: the places of its extents' chunks.
class StripeMapTest : public testing::Test {
 protected:
  struct MappedExtent {
    std::uint64_t first_position, whole_chunks;
    std::vector<ChunkPlace> places;
  };

  void make(const std::vector<PathBandwidth>& paths) {
    map_ = std::make_unique<StripeMap>(paths, kChunk);
    extents_.clear();
  }
  MappedExtent& add_extent(std::uint64_t bytes) {
    const StripeMap::Deal deal = map_->deal(bytes, plenty(map_->paths()));
    map_->adopt(deal);
    return extents_.emplace_back(MappedExtent{deal.first_position, deal.whole_chunks, deal.places});
  }
  void add_extents(int count, std::uint64_t chunks) {
    for (int i = 0; i < count; ++i) add_extent(chunks * kChunk);
  }

  /// Flushes a chunk. Returns true when it has moved.
  bool flush(MappedExtent& extent, std::uint64_t chunk) {
    const auto to = map_->move(extent.first_position + chunk, extent.places[chunk]);
    if (!to) return false;
    map_->release(std::exchange(extent.places[chunk], *to));
    return true;
  }
  int flush_all() {
    int moved = 0;
    for (MappedExtent& extent : extents_) {
      for (std::uint64_t i = 0; i < extent.whole_chunks; ++i) moved += flush(extent, i) ? 1 : 0;
    }
    return moved;
  }

  static double part_on(std::size_t path, const MappedExtent& extent) {
    const auto chunks = std::ranges::count(extent.places, path, &ChunkPlace::file);
    return static_cast<double>(chunks) / static_cast<double>(extent.places.size());
  }
  double part_on(std::size_t path) const {
    std::uint64_t all = 0;
    for (std::size_t i = 0; i < map_->paths(); ++i) all += map_->used_slots(i);
    return static_cast<double>(map_->used_slots(path)) / static_cast<double>(all);
  }

  /// No byte of the files belongs to two chunks.
  void expect_places_apart() const {
    std::set<std::pair<std::size_t, std::uint64_t>> taken;
    for (const MappedExtent& extent : extents_) {
      for (const ChunkPlace place : extent.places) {
        EXPECT_TRUE(taken.emplace(place.file, place.offset).second)
            << place.file << " " << place.offset;
      }
    }
  }

  std::unique_ptr<StripeMap> map_;
  std::vector<MappedExtent> extents_;
};

// ---- new extents -----------------------------------------------------------------------------

TEST_F(StripeMapTest, LaysAnExtentOfOnePathInOnePieceWithoutReserve) {
  make({{}});
  add_extent(3 * kChunk + 1);
  const MappedExtent& extent = add_extent(8 * kChunk);
  for (std::uint64_t i = 0; i < 8; ++i) {
    EXPECT_EQ(extent.places[i].offset, 3 * kChunk + 4_KiB + i * kChunk);
  }
  EXPECT_EQ(map_->free_slots(0), 0u);
  EXPECT_EQ(map_->meter(0), nullptr);
  EXPECT_EQ(flush_all(), 0);
}

TEST_F(StripeMapTest, DealsEveryExtentInProportionToTheBandwidths) {
  make({{1e9, 1e9}, {3e9, 3e9}});
  for (const std::uint64_t chunks : {64u, 100u, 7u, 1000u}) {
    const MappedExtent& extent = add_extent(chunks * kChunk);
    EXPECT_NEAR(part_on(1, extent), 0.75, 2.0 / static_cast<double>(chunks));
  }
  EXPECT_NEAR(part_on(1), 0.75, 0.01);
}

TEST_F(StripeMapTest, SpreadsExtentsOfOneChunkToo) {
  make({{1e9, 1e9}, {3e9, 3e9}});
  add_extents(100, 1);
  EXPECT_NEAR(part_on(1), 0.75, 0.03);
  make({{}, {}});
  for (int i = 0; i < 100; ++i) add_extent(100);
  int on_first = 0;
  for (const MappedExtent& extent : extents_) on_first += extent.places[0].file == 0 ? 1 : 0;
  EXPECT_EQ(on_first, 50);
}

TEST_F(StripeMapTest, TakesExactlyTheDiskBytesThatItSays) {
  for (const std::size_t paths : {1u, 2u, 3u, 5u}) {
    make(std::vector<PathBandwidth>(paths));
    std::uint64_t said = 0;
    std::mt19937_64 random(7);
    for (int i = 0; i < 200; ++i) {
      const std::uint64_t bytes = 1 + random() % (20 * kChunk);
      said += StripeMap::disk_bytes(bytes, kChunk, paths);
      const StripeMap::Deal deal = map_->deal(bytes, plenty(map_->paths()));
      map_->adopt(deal);
      ASSERT_EQ(ends_of(deal), said) << bytes;
    }
  }
  EXPECT_EQ(StripeMap::disk_bytes(9 * kChunk + 1, kChunk, 1), 9 * kChunk + 4_KiB);
  EXPECT_EQ(StripeMap::disk_bytes(9 * kChunk + 1, kChunk, 2), (9 + 2) * kChunk + 4_KiB);
  EXPECT_EQ(StripeMap::disk_bytes(100, kChunk, 2), 4_KiB) << "nothing of it can move";
}

TEST_F(StripeMapTest, ADealThatIsNotAdoptedLeavesNothingBehind) {
  make({{}, {}});
  (void)map_->deal(100 * kChunk, plenty(map_->paths()));
  const StripeMap::Deal first = map_->deal(8 * kChunk, plenty(map_->paths()));
  EXPECT_EQ(ends_of(first), 10 * kChunk);
  EXPECT_EQ(first.first_position, 0u);
}

// ---- moving ----------------------------------------------------------------------------------

TEST_F(StripeMapTest, MovesAboutAsManyChunksAsTheSharesHaveChanged) {
  make({{4e9, 4e9}, {4e9, 4e9}});
  add_extents(10, 100);
  map_->set_bandwidths(std::vector<PathBandwidth>{{4.5e9, 4.5e9}, {3.5e9, 3.5e9}});
  EXPECT_NEAR(flush_all(), 62, 20);
  EXPECT_NEAR(part_on(0), 0.5625, 0.01);
  for (const MappedExtent& extent : extents_) EXPECT_NEAR(part_on(0, extent), 0.5625, 0.03);
  EXPECT_EQ(flush_all(), 0) << "all are where they should be";
  expect_places_apart();
}

TEST_F(StripeMapTest, FillsTheReserveAndLeavesTheRestWhereItIs) {
  make({{4e9, 4e9}, {4e9, 4e9}});
  add_extents(10, 100);
  map_->set_bandwidths(std::vector<PathBandwidth>{{1e6, 1e6}, {4e9, 4e9}});
  for (int i = 0; i < 3; ++i) flush_all();
  EXPECT_NEAR(part_on(1), 0.5 * 5 / 4, 0.01);
  EXPECT_LE(map_->free_slots(1), 10u);
  for (const MappedExtent& extent : extents_) {
    EXPECT_NEAR(part_on(1, extent), 0.625, 0.05) << "no extent is favoured";
  }
  expect_places_apart();
}

TEST_F(StripeMapTest, GoesOnWhenTheRightPathHasNoFreeSlot) {
  make({{}, {}});
  add_extents(50, 3);  // too small for a reserve
  map_->set_bandwidths(std::vector<PathBandwidth>{{1e6, 1e6}, {4e9, 4e9}});
  EXPECT_EQ(flush_all(), 0);
  add_extent(40 * kChunk);
  flush_all();
  expect_places_apart();
}

TEST_F(StripeMapTest, KeepsEveryChunkApartThroughAnyChangesOfShares) {
  make(std::vector<PathBandwidth>(3));
  std::mt19937_64 random(2026);
  const auto bandwidth = [&] { return static_cast<double>(1 + random() % 4000) * 1e6; };
  for (int round = 0; round < 50; ++round) {
    add_extent(1 + random() % (60 * kChunk));
    map_->set_bandwidths(std::vector<PathBandwidth>{
        {bandwidth(), bandwidth()}, {bandwidth(), bandwidth()}, {bandwidth(), bandwidth()}});
    flush_all();
    expect_places_apart();
  }
}

// ---- following the bandwidth -----------------------------------------------------------------

/// Training steps over two paths of known bandwidth, in made-up time: every chunk is read and
/// flushed once a step.
class FollowingTest : public StripeMapTest {
 protected:
  FollowingTest() {
    make({{4e9, 4e9}, {4e9, 4e9}});
    add_extents(8, 64);
  }

  void step(std::vector<double> bandwidth) {
    for (MappedExtent& extent : extents_) {
      for (std::uint64_t i = 0; i < extent.whole_chunks; ++i) {
        transfer(extent.places[i], OpKind::kRead, bandwidth);
        if (map_->rebalance()) ++changes_;
        flush(extent, i);
        transfer(extent.places[i], OpKind::kWrite, bandwidth);
      }
    }
  }
  void steps(int count, const std::vector<double>& bandwidth) {
    for (int i = 0; i < count; ++i) step(bandwidth);
  }

  int changes_ = 0;

 private:
  /// Acts as if a chunk were 16 MiB: a step takes seconds.
  void transfer(ChunkPlace place, OpKind kind, const std::vector<double>& bandwidth) {
    constexpr std::uint64_t kBytes = 16_MiB;
    const std::chrono::duration<double> time(static_cast<double>(kBytes) / bandwidth[place.file]);
    map_->meter(place.file)->begin(kind, now_);
    now_ += std::chrono::duration_cast<std::chrono::nanoseconds>(time);
    map_->meter(place.file)->end(kind, kBytes, now_);
  }
  Time now_{};
};

TEST_F(FollowingTest, APathThatBecomesSlowLosesChunksAndWinsThemBack) {
  EXPECT_NEAR(part_on(0), 0.5, 0.01);
  steps(3, {1e9, 4e9});
  EXPECT_NEAR(part_on(0), 0.375, 0.01) << "the other takes what it has room for";
  EXPECT_EQ(changes_, 1) << "what it has no room for is no change";
  steps(3, {4e9, 4e9});
  EXPECT_NEAR(part_on(0), 0.5, 0.05);
  expect_places_apart();
}

TEST_F(FollowingTest, PathsThatAreNeverTriedFindTheirShares) {
  make({{}, {}});
  add_extents(8, 64);
  steps(3, {4e9, 2.5e9});
  EXPECT_NEAR(part_on(0), 4 / 6.5, 0.02);
}

TEST_F(FollowingTest, SteadyPathsKeepTheirChunks) {
  const auto before = extents_.front().places;
  steps(3, {3.8e9, 4.1e9});
  EXPECT_EQ(changes_, 0);
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(extents_.front().places[i].offset, before[i].offset);
  }
}

// ---- room -------------------------------------------------------------------------------------

TEST_F(StripeMapTest, GivesAFullPathsPartToTheOneWithMostRoom) {
  make({{1e9, 1e9}, {1e9, 1e9}, {1e9, 1e9}});
  StripeMap::Room room = plenty(3);
  room.bytes_of_disk = {2 * kChunk, 100 * kChunk, 50 * kChunk};
  const StripeMap::Deal deal = map_->deal(60 * kChunk, room);
  EXPECT_EQ(bytes_on(deal, 0), 2 * kChunk);
  EXPECT_LE(bytes_on(deal, 2), 50 * kChunk);
  EXPECT_EQ(ends_of(deal), 75 * kChunk) << "the free places are dealt like the chunks";
}

TEST_F(StripeMapTest, CountsTheRoomOfPathsOnOneFileSystemOnce) {
  make({{1e9, 1e9}, {1e9, 1e9}, {1e9, 1e9}});
  StripeMap::Room room{.disk_of_path = {0, 0, 1}, .bytes_of_disk = {10 * kChunk, 1000 * kChunk}};
  const StripeMap::Deal deal = map_->deal(60 * kChunk, room);
  EXPECT_EQ(bytes_on(deal, 0) + bytes_on(deal, 1), 10 * kChunk);
  EXPECT_EQ(bytes_on(deal, 2), 65 * kChunk);
}

TEST_F(StripeMapTest, DealsAsEverWhenNobodyHasRoom) {
  make({{1e9, 1e9}, {1e9, 1e9}});
  StripeMap::Room none{.disk_of_path = {0, 1}, .bytes_of_disk = {0, 0}};
  EXPECT_EQ(map_->deal(8 * kChunk, none).ends, map_->deal(8 * kChunk, plenty(2)).ends);
}

}  // namespace
}  // namespace strata::tiering::stripe_map_test
