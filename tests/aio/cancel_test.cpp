#include <thread>
#include <vector>

#include "aio/scripted_queue_fixture.h"

namespace strata::aio {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

using IoTicketCancel = ScriptedQueue;

TEST_F(IoTicketCancel, EndsAnOperationThatHasNotBegunWithoutWaitingForOthers) {
  options.depth = 1;
  script.otherwise = Fault::stuck();
  start();
  IoTicket first = queue->submit(read_of(0, 1));
  IoTicket second = queue->submit(read_of(1, 2));
  IoTicket third = queue->submit(read_of(3, 1));
  script.wait_for_accepted(1);
  second.cancel();
  const std::string message = message_of<Cancelled>(second);
  EXPECT_THAT(message, HasSubstr("read of " + file.path().string()));
  EXPECT_THAT(message, HasSubstr("at offset 65536, 131072 bytes: cancelled"));
  EXPECT_FALSE(first.done());
  script.release_held();
  script.wait_for_accepted(2);
  script.release_held();
  first.wait();
  third.wait();
  EXPECT_EQ(script.requests()[1].offset, 3 * kBlockBytes);
}

TEST_F(IoTicketCancel, DropsTheBlocksThatTheBackendDoesNotHaveAndAwaitsTheOthers) {
  options.depth = 2;
  script.otherwise = Fault::stuck();
  start();
  IoTicket ticket = queue->submit(read_of(0, 8));
  script.wait_for_accepted(2);
  ticket.cancel();
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(ticket.done());
  script.release_held();
  EXPECT_THROW(ticket.wait(), Cancelled);
  EXPECT_TRUE(block_arrived(0) && block_arrived(1));
  EXPECT_EQ(script.requests().size(), 2u);
}

TEST_F(IoTicketCancel, LetsAnOperationSucceedThatTheBackendHasInFull) {
  script.otherwise = Fault::stuck();
  start();
  IoTicket ticket = queue->submit(read_of(0, 3));
  script.wait_for_accepted(3);
  ticket.cancel();
  std::this_thread::sleep_for(milliseconds(20));
  script.release_held();
  ticket.wait();
  EXPECT_TRUE(block_arrived(0) && block_arrived(1) && block_arrived(2));
}

TEST_F(IoTicketCancel, DoesNotAskForTheRestOfAShortTransfer) {
  script.otherwise = Fault::stuck();
  start();
  IoTicket ticket = queue->submit(read_of(0, 1));
  script.wait_for_accepted(1);
  ticket.cancel();
  std::this_thread::sleep_for(milliseconds(20));
  script.release_held(4_KiB);
  EXPECT_THROW(ticket.wait(), Cancelled);
  EXPECT_EQ(script.requests().size(), 1u);
}

TEST_F(IoTicketCancel, GivesTheBlocksOfARefusedOperationToTheNext) {
  options.depth = 2;
  script.refused_calls = 1'000'000;
  start();
  IoTicket refused = queue->submit(read_of(0, 2));
  IoTicket next = queue->submit(read_of(2, 2));
  refused.cancel();
  EXPECT_THROW(refused.wait(), Cancelled);
  script.accept_again();
  next.wait();
  EXPECT_EQ(script.requests()[0].offset, 2 * kBlockBytes);
}

TEST_F(IoTicketCancel, LeavesTheReasonOfAnOperationThatHasFailedAlready) {
  options.depth = 2;
  script.faults = {Fault::error(EIO), Fault::stuck()};
  start();
  IoTicket ticket = queue->submit(read_of(0, 8));
  script.wait_for_accepted(2);
  queue->submit(read_of(9, 1)).wait();  // in the place of the failed block
  ticket.cancel();
  script.release_held();
  EXPECT_THAT(message_of<IoError>(ticket), HasSubstr("EIO"));
}

TEST_F(IoTicketCancel, AfterTheEndChangesNothing) {
  options.operations_max = 1;
  start();
  IoTicket ended = queue->submit(read_of(0, 1));
  ended.wait();
  IoTicket kept = queue->submit(read_of(1, 1));
  while (!kept.done()) std::this_thread::yield();
  IoTicket next = queue->submit(read_of(2, 8));  // in the place that both had
  ended.cancel();
  kept.cancel();
  next.wait();
  kept.wait();
  EXPECT_TRUE(block_arrived(1) && block_arrived(9));
}

TEST_F(IoTicketCancel, TwiceIsAsGoodAsOnceAndTheQueueGoesOn) {
  options.depth = 1;
  options.operations_max = 2;
  script.faults = {Fault::stuck()};
  start();
  IoTicket first = queue->submit(read_of(0, 1));
  IoTicket second = queue->submit(read_of(1, 1));
  script.wait_for_accepted(1);
  second.cancel();
  second.cancel();
  EXPECT_THROW(second.wait(), Cancelled);
  second.cancel();
  EXPECT_THROW(second.wait(), UsageError);
  IoTicket third = queue->submit(read_of(2, 1));
  second.cancel();
  script.release_held();
  first.wait();
  third.wait();
  EXPECT_TRUE(block_arrived(2));
}

TEST_F(IoTicketCancel, EndsTheWaitOfAnotherThread) {
  options.depth = 1;
  script.otherwise = Fault::stuck();
  start();
  const IoTicket first = queue->submit(read_of(0, 1));
  IoTicket second = queue->submit(read_of(1, 1));
  std::jthread waiter([&] { EXPECT_THROW(second.wait(), Cancelled); });
  std::this_thread::sleep_for(milliseconds(10));
  second.cancel();
  waiter.join();
  EXPECT_FALSE(first.done());
  script.release_held();
}

using IoQueueEnd = ScriptedQueue;

TEST_F(IoQueueEnd, FinishesWhatWasAcceptedAndLeavesTheOutcomesToTheTickets) {
  options.depth = 2;
  script.faults = {Fault::stuck(), Fault::error(EIO)};
  start();
  IoTicket good = queue->submit(read_of(0, 1));
  IoTicket failed = queue->submit(read_of(1, 1));
  IoTicket waiting = queue->submit(read_of(2, 8));
  std::jthread releaser([&] {
    script.wait_for_accepted(2);
    script.release_held();
  });
  queue.reset();
  EXPECT_TRUE(good.done() && failed.done() && waiting.done());
  good.cancel();
  good.wait();
  EXPECT_THAT(message_of<IoError>(failed), HasSubstr("EIO"));
  waiting.wait();
  EXPECT_TRUE(block_arrived(0) && block_arrived(9));
}

TEST_F(IoQueueEnd, ComesSoonerWhenTheOperationsAreCancelledMeanwhile) {
  options.depth = 1;
  script.otherwise = Fault::stuck();
  start();
  IoTicket ticket = queue->submit(read_of(0, 16));
  script.wait_for_accepted(1);
  std::jthread canceller([&] {
    std::this_thread::sleep_for(milliseconds(10));
    ticket.cancel();
    script.release_held();
  });
  queue.reset();
  canceller.join();
  EXPECT_THROW(ticket.wait(), Cancelled);
}

}  // namespace
}  // namespace strata::aio
