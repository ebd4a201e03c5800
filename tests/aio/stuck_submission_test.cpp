#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "aio/scripted_queue_fixture.h"

// An engine that does not come back from taking requests.

namespace strata::aio::stuck_submission_test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::HasSubstr;

class StuckSubmission : public ScriptedQueue {
 protected:
  StuckSubmission() {
    script.may_wait_in_enqueue = true;
    options.warn_after = milliseconds(50);
    options.fail_after = milliseconds(200);
  }

  /// The driver's thread is in the engine and stays there.
  IoTicket submit_and_get_stuck(const Operation& operation) {
    script.hold_up();
    IoTicket ticket = queue->submit(operation);
    script.wait_for_somebody_held_up();
    return ticket;
  }
};

TEST_F(StuckSubmission, FailsItsOperationAtTheDeadline) {
  start();
  const auto begin = steady_clock::now();
  IoTicket ticket = submit_and_get_stuck(read_of(1, 1));
  const std::string message = message_of<DeadlineExceeded>(ticket);
  EXPECT_GE(steady_clock::now() - begin, options.fail_after);
  EXPECT_THAT(message, HasSubstr("read of " + file.path().string()));
  EXPECT_THAT(message, HasSubstr("at offset 65536, 65536 bytes"));
  EXPECT_THAT(log_text.str(), HasSubstr("warning: the I/O engine scripted is held up"));
  EXPECT_TRUE(queue->lost_memory()->touches(read_of(1, 1).buffer));
  script.move_on();
}

TEST_F(StuckSubmission, FailsWhatTheEngineHasAndWhatWaitsBehindIt) {
  options.depth = 2;
  script.faults = {Fault::stuck()};
  start();
  IoTicket held = queue->submit(read_of(0, 1));
  script.wait_for_accepted(1);
  IoTicket stuck = submit_and_get_stuck(read_of(1, 4));
  IoTicket submitted = queue->submit(read_of(6, 1));
  EXPECT_THROW(held.wait(), DeadlineExceeded);
  EXPECT_THROW(stuck.wait(), DeadlineExceeded);
  EXPECT_THROW(submitted.wait(), DeadlineExceeded);
  EXPECT_FALSE(queue->lost_memory()->touches(read_of(6, 1).buffer)) << "it never began";
  script.move_on();
}

TEST_F(StuckSubmission, ClosesTheQueueAndHoldsUpNobody) {
  start();
  std::optional<IoTicket> ticket = submit_and_get_stuck(read_of(0, 1));
  std::jthread registering([&] { EXPECT_NE(queue->register_memory(buffer.span()).refusal(), ""); });
  EXPECT_THROW(ticket->wait(), DeadlineExceeded);
  EXPECT_THROW((void)queue->try_submit(read_of(1, 1)), DeadlineExceeded);
  EXPECT_THROW((void)queue->submit(read_of(1, 1)), DeadlineExceeded);
  registering.join();
  ticket.reset();
  queue.reset();
  script.move_on();
}

TEST_F(StuckSubmission, HoldsUpNoDestructorEither) {
  start();
  { const IoTicket ticket = submit_and_get_stuck(read_of(0, 1)); }
  queue.reset();
  script.move_on();
}

TEST_F(StuckSubmission, LeavesOperationsAsTheyEndedWhenItIsOverAfterAll) {
  start();
  IoTicket failed = submit_and_get_stuck(read_of(0, 1));
  IoTicket forgotten = queue->submit(read_of(1, 1));
  EXPECT_THROW(failed.wait(), DeadlineExceeded);
  script.move_on();
  EXPECT_TRUE(forgotten.done());
  EXPECT_THROW(forgotten.wait(), DeadlineExceeded);
  EXPECT_THROW((void)queue->submit(read_of(2, 1)), DeadlineExceeded);
}

TEST_F(StuckSubmission, LosesNothingWhenItIsOverInTime) {
  options.fail_after = milliseconds(60'000);
  start();
  IoTicket ticket = submit_and_get_stuck(read_of(3, 2));
  std::this_thread::sleep_for(milliseconds(20));
  script.move_on();
  ticket.wait();
  EXPECT_TRUE(block_arrived(3));
  EXPECT_TRUE(block_arrived(4));
  queue->submit(read_of(5, 1)).wait();
  EXPECT_FALSE(queue->lost_memory()->touches(buffer.span()));
}

}  // namespace
}  // namespace strata::aio::stuck_submission_test
