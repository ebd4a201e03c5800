#include "strata/aio/submitter.h"

#include <optional>
#include <thread>

#include "aio/scripted_queue_fixture.h"
#include "strata/aio/io_channel.h"

// Promises of a queue and a channel alike to those who submit for a ticket, and what a channel,
// which has no thread, promises besides.

namespace strata::aio::submitter_test {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using testing::HasSubstr;

enum class Kind { kQueue, kChannel };

class SubmitterTest : public ScriptedQueue, public testing::WithParamInterface<Kind> {
 protected:
  Submitter& submitter() {
    if (GetParam() == Kind::kQueue) {
      if (!queue) start();
      return *queue;
    }
    if (!channel) channel.emplace(options, make_backend(), log);
    return *channel;
  }
  void destroy_submitter() {
    queue.reset();
    channel.reset();
  }

  std::optional<IoChannel> channel;
};

INSTANTIATE_TEST_SUITE_P(Both, SubmitterTest, testing::Values(Kind::kQueue, Kind::kChannel),
                         [](const auto& test) {
                           return test.param == Kind::kQueue ? "Queue" : "Channel";
                         });

TEST_P(SubmitterTest, MovesTheBytesOfEveryTicketWhateverTheOrderOfWaiting) {
  IoTicket first = submitter().submit(read_of(0, 5));
  IoTicket second = submitter().submit(read_of(5, 11));
  second.wait();
  first.wait();
  EXPECT_TRUE(buffer == on_disk);
  EXPECT_THROW(first.wait(), UsageError);
}

TEST_P(SubmitterTest, AnswersNotNowWhileAsManyAreInFlightAsItAccepts) {
  options.operations_max = 2;
  script.otherwise = Fault::stuck();
  IoTicket first = submitter().submit(read_of(0, 1));
  IoTicket second = submitter().submit(read_of(1, 1));
  script.wait_for_accepted(2);
  EXPECT_EQ(submitter().operations_max(), 2u);
  EXPECT_FALSE(submitter().try_submit(read_of(2, 1)));
  EXPECT_FALSE(submitter().wait_for_room(milliseconds(20)));
  script.otherwise = Fault::none();
  script.release_held();
  EXPECT_TRUE(submitter().wait_for_room(std::chrono::seconds(30)));
  auto third = submitter().try_submit(read_of(2, 1));
  ASSERT_TRUE(third);
  third->wait();
  second.wait();
  first.wait();
}

TEST_P(SubmitterTest, SaysThatWaitingMakesNoRoomWhereFailedOperationsHoldEveryPlace) {
  options.operations_max = 1;
  script.faults = {Fault::error(EIO)};
  {
    const IoTicket failed = submitter().submit(read_of(0, 1));
    while (!failed.done()) std::this_thread::yield();
    EXPECT_FALSE(submitter().wait_for_room(std::chrono::hours(1)));
    EXPECT_THROW((void)submitter().submit(read_of(1, 1)), IoError);
  }
  EXPECT_TRUE(submitter().wait_for_room(nanoseconds(0))) << "the ticket is gone, its place is free";
  submitter().submit(read_of(1, 1)).wait();
}

TEST_P(SubmitterTest, DeliversAFailureWithItsPlaceThroughTheTicket) {
  script.faults = {Fault::none(), Fault::error(EIO)};
  IoTicket ticket = submitter().submit(read_of(0, 2));
  EXPECT_THAT(message_of<IoError>(ticket), HasSubstr("at offset 65536, 65536 bytes"));
}

TEST_P(SubmitterTest, FinishesWhatIsInFlightWhenItGoesBeforeItsTickets) {
  IoTicket ticket = submitter().submit(read_of(0, 16));
  destroy_submitter();
  EXPECT_TRUE(ticket.done());
  ticket.wait();
  EXPECT_TRUE(buffer == on_disk);
}

TEST_P(SubmitterTest, KeepsTheErrorOfATicketThatOutlivesIt) {
  script.otherwise = Fault::error(EIO);
  IoTicket ticket = submitter().submit(read_of(0, 2));
  destroy_submitter();
  EXPECT_THROW(ticket.wait(), IoError);
}

TEST_P(SubmitterTest, CallsTheMemoryOfATransferThatNeverCameBackLost) {
  options.warn_after = options.fail_after = milliseconds(30);
  script.otherwise = Fault::stuck();
  IoTicket ticket = submitter().submit(read_of(0, 1));
  EXPECT_THROW(ticket.wait(), DeadlineExceeded);
  EXPECT_TRUE(submitter().lost_memory()->touches(buffer.span(0, 1)));
  EXPECT_THROW((void)submitter().try_submit(read_of(1, 1)), DeadlineExceeded);
}

class ChannelTickets : public ScriptedQueue {
 protected:
  void start() { channel.emplace(options, make_backend(), log); }
  std::optional<IoChannel> channel;
};

TEST_F(ChannelTickets, StartTheirOperationsAtOnceAndFinishWhenTheyAreAsked) {
  start();
  const IoTicket ticket = channel->submit(read_of(0, 1));
  EXPECT_EQ(script.requests().size(), 1u);
  EXPECT_TRUE(ticket.done());
  EXPECT_TRUE(block_arrived(0));
}

TEST_F(ChannelTickets, DoNotMixWithWhatIsReaped) {
  start();
  ASSERT_TRUE(channel->try_submit(read_of(0, 1), 17));
  IoTicket ticket = channel->submit(read_of(1, 1));
  EXPECT_EQ(channel->unfinished(), 1u);
  ticket.wait();
  std::array<IoOutcome, 4> outcomes;
  ASSERT_EQ(channel->reap(outcomes, milliseconds(100)), 1u);
  EXPECT_EQ(outcomes[0].tag, 17u);
  EXPECT_EQ(channel->reap(outcomes, nanoseconds::max()), 0u) << "nothing with a tag is unfinished";
}

TEST_F(ChannelTickets, UseNoThreadButTheCallers) {
  start();
  channel->submit(read_of(0, 16)).wait();
  EXPECT_EQ(script.threads_seen(), 1u);
}

TEST_F(ChannelTickets, KeepDeadlinesByTheClockThatWasHandedIn) {
  ManualClock clock;
  options.clock = &clock;
  script.otherwise = Fault::stuck();
  start();
  const IoTicket ticket = channel->submit(read_of(0, 1));
  clock.advance(options.fail_after - nanoseconds(1));
  EXPECT_FALSE(ticket.done());
  clock.advance(nanoseconds(1));
  EXPECT_TRUE(ticket.done());
  EXPECT_THAT(log_text.str(), HasSubstr("deadline passed"));
}

}  // namespace
}  // namespace strata::aio::submitter_test
