#include "strata/tiering/shard_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <thread>
#include <utility>

#include "strata/base/error.h"
#include "support/message_of.h"
#include "tiering/store_fixture.h"

namespace strata::tiering::shard_store_test {
namespace {

using aio::Fault;
using aio::OpKind;
using support::message_of;
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

class ShardStoreTest : public StoreTest {};

class StripedStoreTest : public StoreTest {
 protected:
  StripedStoreTest() : StoreTest(3) {}
};

class CrowdedStoreTest : public StoreTest {
 protected:
  CrowdedStoreTest() : StoreTest(3, 2) {}
};

class SmallBudgetStoreTest : public StoreTest {
 protected:
  SmallBudgetStoreTest() : StoreTest(1, 64, 10 * kChunk) {}
};

// ---- bytes -----------------------------------------------------------------------------------

TEST_F(ShardStoreTest, GivesBackWhatWasWritten) {
  const Extent extent = store_.allocate(5 * kChunk + 777, "blocks.3 m");
  const auto bytes = random_bytes(extent.bytes, 1);
  write(extent, bytes);
  EXPECT_EQ(read(extent), bytes);
}

TEST_F(ShardStoreTest, ReadsZerosBeforeTheFirstWriteWithoutTheDisk) {
  const Extent extent = store_.allocate(2 * kChunk + 5, "blocks.3 m");
  disk_->inject(OpKind::kRead, Fault::error(EIO));
  EXPECT_THAT(read(extent), Each(std::byte{0}));
  EXPECT_EQ(queue_.statistics().requests, 0u);
}

TEST_F(ShardStoreTest, MixesZerosAndWrittenChunksInOneRange) {
  const Extent extent = store_.allocate(4 * kChunk, "blocks.3 m");
  const auto bytes = random_bytes(kChunk, 2);
  write(extent, bytes, kChunk);
  write(extent, bytes, 3 * kChunk);
  std::vector<std::byte> expected(4 * kChunk);
  std::ranges::copy(bytes, expected.begin() + kChunk);
  std::ranges::copy(bytes, expected.begin() + 3 * kChunk);
  EXPECT_EQ(read(extent), expected);
}

TEST_F(ShardStoreTest, MovesALongRangeOfOneDirectoryAsOneTransferOfTheDisk) {
  const Extent extent = store_.allocate(16 * kChunk, "blocks.3 m");  // 1 MiB, the queue's block
  write(extent, random_bytes(extent.bytes, 3));
  EXPECT_EQ(queue_.statistics().requests, 1u);
}

TEST_F(StripedStoreTest, DealsChunksToAllDirectoriesAndGivesThemBack) {
  const Extent first = store_.allocate(7 * kChunk + 1, "first");
  const Extent second = store_.allocate(5 * kChunk - 1, "second");
  const auto a = random_bytes(first.bytes, 4);
  const auto b = random_bytes(second.bytes, 5);
  write(first, a);
  write(second, b);
  EXPECT_EQ(read(first), a);
  EXPECT_EQ(read(second), b);
  EXPECT_EQ(read(first, {3 * kChunk, 2 * kChunk}),
            std::vector(a.begin() + 3 * kChunk, a.begin() + 5 * kChunk));
}

TEST_F(CrowdedStoreTest, MovesARangeOfMoreOperationsThanTheQueueHolds) {
  const Extent extent = store_.allocate(11 * kChunk + 9, "blocks.3 m");
  const auto bytes = random_bytes(extent.bytes, 6);
  write(extent, bytes);
  EXPECT_EQ(read(extent), bytes);
}

TEST_F(ShardStoreTest, CountsPublishedBytesAndFinishedTransfers) {
  const Extent extent = store_.allocate(kChunk + 100, "blocks.3 m");
  write(extent, random_bytes(extent.bytes, 7));
  (void)read(extent, {kChunk, 100});
  const CounterReading reading = counters_.read();
  EXPECT_EQ(reading[Hop::kFlush].bytes, kChunk + 100);
  EXPECT_EQ(reading[Hop::kFlush].calls, 1u);
  EXPECT_EQ(reading[Hop::kFetch].bytes, 100u);
  EXPECT_EQ(reading[Hop::kFetch].calls, 1u);
}

// ---- space -----------------------------------------------------------------------------------

TEST_F(SmallBudgetStoreTest, ChargesTheBlocksOfAnExtentAndRefusesMoreThanTheBudget) {
  const Extent extent = store_.allocate(4 * kChunk + 1, "first");
  EXPECT_EQ(nvme_.used(), 4 * kChunk + 4_KiB);
  EXPECT_EQ(nvme_.used(), ShardStore::disk_bytes(extent.bytes, kChunk, 1));
  EXPECT_THAT(message_of<BudgetError>([&] { (void)store_.allocate(6 * kChunk, "blocks.7 v"); }),
              AllOf(HasSubstr("nvme budget"), HasSubstr("blocks.7 v")));
  EXPECT_EQ(nvme_.used(), 4 * kChunk + 4_KiB);
  EXPECT_NO_THROW((void)store_.allocate(5 * kChunk, "what fits"));
}

TEST_F(ShardStoreTest, LeavesNothingInTheDirectory) {
  (void)store_.allocate(kChunk, "blocks.3 m");
  EXPECT_TRUE(std::filesystem::is_empty(directory_.path() / "disk0"));
}

TEST_F(ShardStoreTest, RefusesOptionsThatCannotWork) {
  const auto make = [&](std::vector<std::filesystem::path> directories, std::uint64_t chunk) {
    ShardStore store({.directories = std::move(directories), .chunk_bytes = chunk}, queue_, nvme_,
                     counters_);
  };
  EXPECT_THROW(make({}, kChunk), ConfigError);
  EXPECT_THROW(make({directory_.path()}, 0), ConfigError);
  EXPECT_THROW(make({directory_.path()}, 5000), ConfigError);
  EXPECT_THROW(make({directory_.path() / "missing"}, kChunk), IoError);
  EXPECT_THROW((void)store_.allocate(0, "nothing"), UsageError);
}

// ---- contract of a transfer ------------------------------------------------------------------

TEST_F(ShardStoreTest, RefusesRangesOffTheGridAndBadBuffers) {
  const Extent extent = store_.allocate(3 * kChunk + 10, "blocks.3 m");
  const auto start = [&](ByteRange range, std::span<std::byte> buffer) {
    return message_of<UsageError>([&] { (void)fetch(store_, extent, range, buffer); });
  };
  EXPECT_THAT(start({1, kChunk}, buffer_), HasSubstr("multiples of the chunk"));
  EXPECT_THAT(start({0, kChunk + 1}, buffer_), HasSubstr("multiples of the chunk"));
  EXPECT_THAT(start({0, 0}, buffer_), HasSubstr("empty"));
  EXPECT_THAT(start({0, extent.bytes + 1}, buffer_), HasSubstr("leaves the extent"));
  EXPECT_THAT(start({4 * kChunk, kChunk}, buffer_), HasSubstr("leaves the extent"));
  EXPECT_THAT(start({0, kChunk}, buffer_.first(kChunk - 1)), HasSubstr("the buffer has"));
  EXPECT_THAT(start({0, kChunk}, buffer_.subspan(512)), HasSubstr("aligned to 4096"));
  EXPECT_THROW((void)fetch(store_, {.id = 9, .bytes = 1}, {0, 1}, buffer_), UsageError);
}

TEST_F(ShardStoreTest, KeepsTransfersOfTheSameBytesApart) {
  const Extent extent = store_.allocate(4 * kChunk, "blocks.3 m");
  write(extent, random_bytes(extent.bytes, 8));
  const auto other = take_buffer(4 * kChunk);
  {
    auto flushing = flush(store_, extent, {kChunk, kChunk}, buffer_);
    ASSERT_TRUE(flushing);
    EXPECT_THAT(message_of<UsageError>([&] {
                  (void)fetch(store_, extent, {0, 2 * kChunk}, other);
                }),
                AllOf(HasSubstr("fetch of blocks.3 m, chunk 1"), HasSubstr("flush")));
    EXPECT_THROW((void)flush(store_, extent, {0, 4 * kChunk}, other), UsageError);
    auto beside = fetch(store_, extent, {2 * kChunk, 2 * kChunk}, other);
    ASSERT_TRUE(beside);
    EXPECT_THAT(message_of<UsageError>([&] {
                  (void)flush(store_, extent, {3 * kChunk, kChunk}, buffer_);
                }),
                HasSubstr("fetch"));
    auto also = fetch(store_, extent, {2 * kChunk, kChunk}, buffer_.subspan(kChunk));
    EXPECT_TRUE(also) << "two fetches may share bytes";
  }
  EXPECT_EQ(read(extent).size(), 4 * kChunk);
}

TEST_F(ShardStoreTest, IsDoneOnlyWhenTheDiskIs) {
  const Extent extent = store_.allocate(kChunk, "blocks.3 m");
  disk_->hold();
  auto transfer = flush(store_, extent, {0, kChunk}, buffer_);
  ASSERT_TRUE(transfer);
  EXPECT_FALSE(transfer->done());
  disk_->release();
  while (!transfer->done()) std::this_thread::yield();
  transfer->wait();
  EXPECT_THROW(transfer->wait(), UsageError);
}

TEST_F(ShardStoreTest, SaysNotNowWhenTheQueueIsFullAndHasStartedNothing) {
  const Extent extent = store_.allocate(100 * kChunk, "blocks.3 m");
  std::vector<Transfer> transfers;
  disk_->hold();
  std::uint64_t chunk = 0;
  while (auto transfer = flush(store_, extent, {chunk * kChunk, kChunk}, buffer_)) {
    transfers.push_back(std::move(*transfer));
    ++chunk;
  }
  EXPECT_EQ(transfers.size(), queue_.options().operations_max);
  disk_->release();
  for (Transfer& transfer : transfers) transfer.wait();
  EXPECT_THAT(read(extent, {chunk * kChunk, kChunk}), Each(std::byte{0})) << "never written";
  EXPECT_TRUE(flush(store_, extent, {chunk * kChunk, kChunk}, buffer_));
}

TEST_F(ShardStoreTest, TakesChecksumsBeforeFlushReturns) {
  const Extent extent = store_.allocate(kChunk, "blocks.3 m");
  const auto bytes = random_bytes(kChunk, 9);
  std::ranges::copy(bytes, buffer_.begin());
  auto transfer = flush(store_, extent, {0, kChunk}, buffer_);
  ASSERT_TRUE(transfer);
  while (!transfer->done()) std::this_thread::yield();
  std::ranges::fill(buffer_, std::byte{0});  // the buffer is the caller's again
  transfer->wait();
  EXPECT_EQ(read(extent), bytes);
}

TEST_F(ShardStoreTest, ZerosOnlyThePaddingBehindTheLastByte) {
  const Extent extent = store_.allocate(kChunk + 1, "blocks.3 m");
  std::ranges::fill(buffer_, std::byte{0xaa});
  auto transfer = flush(store_, extent, {kChunk, 1}, buffer_);
  ASSERT_TRUE(transfer);
  transfer->wait();
  EXPECT_EQ(buffer_[0], std::byte{0xaa});
  EXPECT_EQ(buffer_[1], std::byte{0});
  EXPECT_EQ(buffer_[store_.buffer_bytes(1)], std::byte{0xaa});
}

TEST_F(ShardStoreTest, WaitsForATransferThatIsDroppedOrReplaced) {
  const Extent extent = store_.allocate(2 * kChunk, "blocks.3 m");
  auto transfer = flush(store_, extent, {0, kChunk}, buffer_);
  ASSERT_TRUE(transfer);
  auto next = flush(store_, extent, {kChunk, kChunk}, buffer_);
  ASSERT_TRUE(next);
  *transfer = std::move(*next);
  EXPECT_TRUE(fetch(store_, extent, {0, kChunk}, buffer_.subspan(kChunk))) << "its flush is over";
}

}  // namespace
}  // namespace strata::tiering::shard_store_test
