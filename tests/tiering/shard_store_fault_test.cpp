#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "strata/base/error.h"
#include "strata/tiering/slot_pool.h"
#include "support/message_of.h"
#include "support/torture.h"
#include "tiering/store_fixture.h"

// Every way a disk can return wrong bytes or none, and what a caller sees of it.

namespace strata::tiering::shard_store_fault_test {
namespace {

using aio::Fault;
using aio::OpKind;
using support::caught;
using support::message_of;
using testing::AllOf;
using testing::HasSubstr;

class StoreFaultTest : public StoreTest {
 protected:
  StoreFaultTest() { write(extent_, random_bytes(extent_.bytes, 1)); }

  Extent extent_ = store_.allocate(4 * kChunk, "blocks.3 m");
  std::string disk_path_ = (directory_.path() / "disk0").string();
};

class StripedStoreFaultTest : public StoreTest {
 protected:
  StripedStoreFaultTest() : StoreTest(3) {}
};

TEST_F(StoreFaultTest, KeepsTheBufferOfATransferThatNeverCameBack) {
  const Extent extent = store_.allocate(kChunk, "blocks.4 m");
  HostArena arena(host_, 4_MiB, log_);
  arena.heed(store_.lost_memory());
  SlotPool slots(arena, 1, kChunk);
  disk_->inject(OpKind::kWrite, Fault::stuck());
  {
    const auto slot = slots.try_acquire();
    auto transfer = flush(store_, extent, {0, kChunk}, slot->bytes());
    ASSERT_TRUE(transfer);
    EXPECT_THROW(transfer->wait(), DeadlineExceeded);
  }
  EXPECT_THROW((void)slots.try_acquire(), DeadlineExceeded);
}

TEST_F(StoreFaultTest, CatchesABitThatFlipsOnTheWayBack) {
  disk_->inject(OpKind::kRead, Fault::flipped_bit());
  EXPECT_THROW((void)read(extent_), CorruptData);
  EXPECT_EQ(read(extent_), random_bytes(extent_.bytes, 1)) << "the disk itself is whole";
}

TEST_F(StoreFaultTest, CatchesABitThatFlipsOnTheWayOutAndNamesThePlace) {
  disk_->inject(OpKind::kWrite, Fault::flipped_bit());
  write(extent_, random_bytes(kChunk, 2), 2 * kChunk);
  EXPECT_THAT(message_of<CorruptData>([&] { (void)read(extent_); }),
              AllOf(HasSubstr("blocks.3 m, chunk 2"), HasSubstr(disk_path_),
                    HasSubstr("offset " + std::to_string(2 * kChunk))));
  EXPECT_NO_THROW((void)read(extent_, {0, 2 * kChunk})) << "the other chunks are whole";
}

TEST_F(StoreFaultTest, CatchesAWriteThatWentToAnotherChunk) {
  disk_->inject(OpKind::kWrite, Fault::misdirected(kChunk));
  write(extent_, random_bytes(kChunk, 3), kChunk);
  EXPECT_THROW((void)read(extent_, {kChunk, kChunk}), CorruptData) << "where it should be";
  EXPECT_THROW((void)read(extent_, {2 * kChunk, kChunk}), CorruptData) << "where it went";
}

TEST_F(StoreFaultTest, CatchesAReadOfAnotherPlace) {
  disk_->inject(OpKind::kRead, Fault::misdirected(kChunk));
  EXPECT_THROW((void)read(extent_, {kChunk, kChunk}), CorruptData);
}

TEST_F(StoreFaultTest, CatchesAWriteThatWasLost) {
  disk_->inject(OpKind::kWrite, Fault::lost());
  write(extent_, random_bytes(kChunk, 5), kChunk);  // the old bytes are still there, and stale
  EXPECT_THROW((void)read(extent_, {kChunk, kChunk}), CorruptData);
}

TEST_F(StoreFaultTest, CatchesAWriteThatWasTorn) {
  disk_->inject(OpKind::kWrite, Fault::torn());
  write(extent_, random_bytes(kChunk, 6), kChunk);
  EXPECT_THROW((void)read(extent_, {kChunk, kChunk}), CorruptData);
}

TEST_F(StoreFaultTest, CatchesAReadThatNeverTouchedTheBuffer) {
  disk_->inject(OpKind::kRead, Fault::lost());
  EXPECT_THROW((void)read(extent_), CorruptData);
}

TEST_F(StoreFaultTest, ReportsAFailedReadWithPathAndOffset) {
  disk_->inject(OpKind::kRead, Fault::error(EIO));
  const auto error = caught<IoError>([&] { (void)read(extent_, {2 * kChunk, kChunk}); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), EIO);
  EXPECT_THAT(error->what(), AllOf(HasSubstr(disk_path_), HasSubstr(std::to_string(2 * kChunk))));
  EXPECT_EQ(counters_.read()[Hop::kFetch].calls, 0u);
  EXPECT_NO_THROW((void)read(extent_)) << "the next fetch is a new one";
}

TEST_F(StoreFaultTest, ReportsAFileThatHasBecomeShorter) {
  disk_->inject(OpKind::kRead, Fault::end_of_file());
  EXPECT_THROW((void)read(extent_), IoError);
}

TEST_F(StoreFaultTest, NeverPublishesOldBytesAfterAFlushThatFailed) {
  disk_->inject(OpKind::kWrite, Fault::error(EIO));
  EXPECT_THROW(write(extent_, random_bytes(kChunk, 7), kChunk), IoError);
  EXPECT_THROW((void)read(extent_, {kChunk, kChunk}), CorruptData);
  const auto bytes = random_bytes(kChunk, 8);
  write(extent_, bytes, kChunk);
  EXPECT_EQ(read(extent_, {kChunk, kChunk}), bytes) << "a new flush makes the chunk good again";
}

TEST_F(StoreFaultTest, CatchesWhateverIsDrawnWhereverItStrikes) {
  const std::vector<Fault> of_writes = {Fault::flipped_bit(), Fault::lost(), Fault::torn(),
                                        Fault::misdirected(kChunk)};
  const std::vector<Fault> of_reads = {Fault::flipped_bit(), Fault::lost(),
                                       Fault::misdirected(kChunk)};
  std::mt19937_64 random(support::torture_seed());
  const std::uint64_t faults = support::torture_cases(60);
  for (std::uint64_t i = 0; i < faults && !HasFailure(); ++i) {
    const ByteRange chunk{random() % 3 * kChunk, kChunk};
    const bool in_write = random() % 2 == 0;
    const std::vector<Fault>& drawn = in_write ? of_writes : of_reads;
    disk_->inject(in_write ? OpKind::kWrite : OpKind::kRead, drawn[random() % drawn.size()]);
    if (in_write) write(extent_, random_bytes(kChunk, random()), chunk.offset);
    EXPECT_THROW((void)read(extent_, chunk), CorruptData) << "fault " << i;
    const auto healed = random_bytes(extent_.bytes, random());
    write(extent_, healed);
    EXPECT_EQ(read(extent_), healed);
  }
  support::report_cases("wrong bytes from the disk of the nvme tier", faults);
}

TEST_F(StripedStoreFaultTest, ReportsTheFirstErrorOfARangeOverSeveralDirectories) {
  const Extent extent = store_.allocate(9 * kChunk, "blocks.3 m");
  const auto bytes = random_bytes(extent.bytes, 9);
  write(extent, bytes);
  disk_->inject(OpKind::kRead, Fault::error(EIO));
  EXPECT_THROW((void)read(extent), IoError);
  disk_->inject(OpKind::kRead, Fault::flipped_bit());
  EXPECT_THROW((void)read(extent), CorruptData);
  EXPECT_EQ(read(extent), bytes);
}

}  // namespace
}  // namespace strata::tiering::shard_store_fault_test
