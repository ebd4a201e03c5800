#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "tiering/store_fixture.h"

// The store over several directories whose bandwidths, as it is told, change.

namespace strata::tiering::shard_store_stripe_test {
namespace {

using aio::Fault;
using aio::OpKind;
using aio::PathBandwidth;

class StripedStore : public StoreTest {
 protected:
  StripedStore() : StoreTest(2, 16) {}

  void set_speeds(double first, double second) {
    store_.set_bandwidths(std::vector<PathBandwidth>{{first, first}, {second, second}});
  }
  std::uint64_t chunks_on(std::size_t directory) const {
    return store_.directories()[directory].chunks;
  }
  std::uint64_t places() const {
    std::uint64_t sum = 0;
    for (const DirectoryUse& use : store_.directories()) sum += use.chunks + use.spares;
    return sum;
  }
};

TEST_F(StripedStore, GivesEachDirectoryChunksInProportionToItsBandwidth) {
  ShardStore store({.directories = subdirectories(2),
                    .chunk_bytes = kChunk,
                    .bandwidths = {{1e9, 1e9}, {3e9, 3e9}}},
                   queue_, nvme_, counters_);
  (void)store.allocate(40 * kChunk, "blocks.3 m");
  const auto uses = store.directories();
  EXPECT_NEAR(static_cast<double>(uses[0].chunks), 10, 1);
  EXPECT_EQ(uses[0].chunks + uses[1].chunks, 40u);
  EXPECT_EQ(uses[0].spares + uses[1].spares, 10u);
  EXPECT_DOUBLE_EQ(uses[1].share, 0.75);
}

TEST_F(StripedStore, MovesChunksWhenTheyAreFlushedAndKeepsTheirBytes) {
  const Extent extent = store_.allocate(40 * kChunk + 7, "blocks.3 m");
  auto bytes = random_bytes(extent.bytes, 1);
  write(extent, bytes);
  EXPECT_EQ(chunks_on(0), 20u);
  set_speeds(4e9, 3e9);
  EXPECT_EQ(read(extent), bytes);
  EXPECT_EQ(chunks_on(0), 20u) << "reading moves nothing";
  bytes = random_bytes(extent.bytes, 2);
  write(extent, bytes);
  EXPECT_NEAR(static_cast<double>(chunks_on(0)), 40 * 4.0 / 7, 1.5);
  EXPECT_EQ(read(extent), bytes);
  set_speeds(1, 4e9);
  write(extent, bytes);
  EXPECT_EQ(chunks_on(1), 25u) << "as many as there is room for";
  EXPECT_EQ(read(extent), bytes);
  EXPECT_EQ(places(), 50u);
}

TEST_F(StripedStore, ChargesTheFreePlacesOfItsExtents) {
  const Extent large = store_.allocate(9 * kChunk + 1, "large");
  EXPECT_EQ(nvme_.used(), (9 + 2) * kChunk + 4_KiB);
  EXPECT_EQ(nvme_.used(), ShardStore::disk_bytes(large.bytes, kChunk, 2));
  const Extent small = store_.allocate(100, "small");
  EXPECT_EQ(nvme_.used(), (9 + 2) * kChunk + 8_KiB);
  set_speeds(1e9, 4e9);
  write(large, random_bytes(large.bytes, 1));
  write(small, random_bytes(small.bytes, 2));
  EXPECT_EQ(nvme_.used(), (9 + 2) * kChunk + 8_KiB) << "moving takes nothing more";
}

TEST_F(StripedStore, TakesTheOldPlacesBackAfterAFlushThatFailed) {
  const Extent extent = store_.allocate(8 * kChunk, "blocks.3 m");
  write(extent, random_bytes(extent.bytes, 1));
  set_speeds(1, 4e9);
  disk_->inject(OpKind::kWrite, Fault::error(EIO));
  EXPECT_THROW(write(extent, random_bytes(extent.bytes, 2)), IoError);
  EXPECT_EQ(chunks_on(0), 4u);
  EXPECT_EQ(places(), 10u);
  EXPECT_THROW((void)read(extent), CorruptData) << "never the old bytes";
  const auto bytes = random_bytes(extent.bytes, 3);
  write(extent, bytes);
  EXPECT_EQ(chunks_on(0), 3u);
  EXPECT_EQ(read(extent), bytes);
}

TEST_F(StripedStore, HasMovedNothingWhenTheQueueIsFull) {
  const Extent extent = store_.allocate(40 * kChunk, "blocks.3 m");
  const auto bytes = random_bytes(extent.bytes, 1);
  write(extent, bytes);
  disk_->hold();
  std::vector<Transfer> transfers;
  std::uint64_t chunk = 0;
  for (; chunk < 16; ++chunk) {
    auto transfer =
        fetch(store_, extent, {chunk * kChunk, kChunk}, buffer_.subspan(chunk * kChunk));
    ASSERT_TRUE(transfer);
    transfers.push_back(std::move(*transfer));
  }
  set_speeds(1, 4e9);
  EXPECT_FALSE(flush(store_, extent, {20 * kChunk, 20 * kChunk}, buffer_.subspan(20 * kChunk)));
  EXPECT_EQ(chunks_on(0), 20u);
  EXPECT_EQ(places(), 50u);
  disk_->release();
  for (Transfer& transfer : transfers) transfer.wait();
  EXPECT_EQ(read(extent), bytes);
}

TEST_F(StripedStore, CatchesAWriteThatWasLostOnItsWayToANewPlace) {
  const Extent extent = store_.allocate(8 * kChunk, "blocks.3 m");
  write(extent, random_bytes(extent.bytes, 1));
  set_speeds(4e9, 1);
  // Chunk by chunk: each flush of a chunk that moves is lost, and only that chunk is read.
  int moved = 0;
  for (std::uint64_t at = 0; at < extent.bytes; at += kChunk) {
    const auto bytes = random_bytes(kChunk, 2 + at);
    const std::uint64_t before = chunks_on(0);
    disk_->inject(OpKind::kWrite, Fault::lost());
    write(extent, bytes, at);
    if (chunks_on(0) != before) {
      ++moved;
      EXPECT_THROW((void)read(extent, {at, kChunk}), CorruptData) << "at " << at;
    }
    write(extent, bytes, at);
    EXPECT_EQ(read(extent, {at, kChunk}), bytes);
  }
  EXPECT_GT(moved, 0);
}

TEST_F(StripedStore, TransfersNeighboursOnOneDirectoryTogether) {
  set_speeds(4e9, 1);
  const Extent extent = store_.allocate(16 * kChunk, "blocks.3 m");
  ASSERT_LE(chunks_on(1), 1u);
  write(extent, random_bytes(extent.bytes, 3));
  EXPECT_LE(queue_.statistics().requests, 3u);
}

TEST_F(StripedStore, RefusesBandwidthsOfOtherDirectories) {
  const std::vector<PathBandwidth> three(3);
  EXPECT_THROW(store_.set_bandwidths(three), UsageError);
  const auto make = [&](std::size_t directories) {
    ShardStore store({.directories = std::vector(directories, directory_.path()),
                      .chunk_bytes = kChunk,
                      .bandwidths = three},
                     queue_, nvme_, counters_);
  };
  EXPECT_THROW(make(2), UsageError);
  EXPECT_THROW(make(65), ConfigError);
  EXPECT_NO_THROW(make(3));
}

}  // namespace
}  // namespace strata::tiering::shard_store_stripe_test
