#include "strata/aio/lost_memory.h"

#include <gtest/gtest.h>

#include <vector>

#include "aio/aligned_buffer.h"
#include "aio/scripted_queue_fixture.h"

namespace strata::aio::lost_memory_test {
namespace {

using std::chrono::milliseconds;

TEST(LostMemory, TellsWhichPartsOfAPieceAreLost) {
  AlignedBuffer buffer(64 << 10);
  LostMemory lost;
  EXPECT_FALSE(lost.touches(buffer.span()));
  EXPECT_TRUE(lost.within(buffer.span()).empty());
  lost.add(buffer.span(32 << 10, 8 << 10));
  lost.add(buffer.span(4 << 10, 8 << 10));
  EXPECT_TRUE(lost.touches(buffer.span()));
  EXPECT_TRUE(lost.touches(buffer.span((12 << 10) - 1, 1)));
  EXPECT_FALSE(lost.touches(buffer.span(12 << 10, 20 << 10))) << "its neighbours on both sides are";
  EXPECT_FALSE(lost.touches(buffer.span(0, 4 << 10)));
  const auto parts = lost.within(buffer.span(0, 36 << 10));
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0].data(), buffer.span(4 << 10, 1).data());
  EXPECT_EQ(parts[0].size(), 8u << 10);
  EXPECT_EQ(parts[1].data(), buffer.span(32 << 10, 1).data());
  EXPECT_EQ(parts[1].size(), 4u << 10) << "only what lies in the piece";
}

class LostMemoryOfAQueue : public ScriptedQueue {
 protected:
  LostMemoryOfAQueue() {
    options.warn_after = milliseconds(20);
    options.fail_after = milliseconds(60);
  }
};

TEST_F(LostMemoryOfAQueue, IsThatOfTransfersThatNeverCameBackAlsoAfterTheQueue) {
  script.faults = {Fault::none(), Fault::stuck()};
  start();
  const Operation good = read_of(0, 1);
  const Operation stuck = read_of(1, 1);
  queue->submit(good).wait();
  IoTicket ticket = queue->submit(stuck);
  const std::shared_ptr<const LostMemory> lost = queue->lost_memory();
  EXPECT_FALSE(lost->touches(stuck.buffer)) << "it may still come back";
  EXPECT_THROW(ticket.wait(), DeadlineExceeded);
  queue.reset();
  EXPECT_TRUE(lost->touches(stuck.buffer));
  EXPECT_FALSE(lost->touches(good.buffer));
}

TEST_F(LostMemoryOfAQueue, IsThatOfEverythingWhenTheEngineIsLost) {
  script.otherwise = Fault::stuck();
  options.fail_after = milliseconds(60'000);
  start();
  const Operation first = read_of(0, 2);
  IoTicket ticket = queue->submit(first);
  script.wait_for_accepted(2);
  script.break_reap();
  EXPECT_THROW(ticket.wait(), DeadlineExceeded);
  EXPECT_TRUE(queue->lost_memory()->touches(first.buffer));
}

TEST_F(LostMemoryOfAQueue, IsNotThatOfOperationsThatNeverBegan) {
  options.depth = 1;
  script.otherwise = Fault::stuck();
  start();
  const Operation stuck = read_of(0, 1);
  const Operation behind = read_of(1, 1);
  IoTicket first = queue->submit(stuck);
  IoTicket second = queue->submit(behind);
  EXPECT_THROW(first.wait(), DeadlineExceeded);
  EXPECT_THROW(second.wait(), DeadlineExceeded);
  EXPECT_TRUE(queue->lost_memory()->touches(stuck.buffer));
  EXPECT_FALSE(queue->lost_memory()->touches(behind.buffer));
}

}  // namespace
}  // namespace strata::aio::lost_memory_test
