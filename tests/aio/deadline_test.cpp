#include <thread>
#include <vector>

#include "aio/scripted_queue_fixture.h"

namespace strata::aio::deadline_test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::HasSubstr;

class Deadline : public ScriptedQueue {
 protected:
  Deadline() {
    options.warn_after = milliseconds(20);
    options.fail_after = milliseconds(60);
  }
};

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST_F(Deadline, WarnsOnceThenFailsTheOperation) {
  options.fail_after = milliseconds(500);  // time for the warning on a busy machine
  script.otherwise = Fault::stuck();
  start();
  const auto begin = steady_clock::now();
  IoTicket ticket = queue->submit(read_of(1, 1));
  const std::string message = message_of<DeadlineExceeded>(ticket);
  EXPECT_GE(steady_clock::now() - begin, options.fail_after);
  EXPECT_THAT(message, HasSubstr("read of " + file.path().string()));
  EXPECT_THAT(message, HasSubstr("at offset 65536, 65536 bytes"));
  EXPECT_THAT(message, HasSubstr("stuck"));
  EXPECT_EQ(count_of(log_text.str(), "warning: "), 1u);
}

TEST_F(Deadline, WarnsButSucceedsWhenTheAnswerIsOnlyLate) {
  options.fail_after = milliseconds(60'000);
  script.otherwise = Fault::stuck();
  start();
  IoTicket ticket = queue->submit(read_of(1, 1));
  std::this_thread::sleep_for(milliseconds(200));
  script.release_held();
  ticket.wait();
  EXPECT_TRUE(block_arrived(1));
  EXPECT_EQ(count_of(log_text.str(), "warning: "), 1u);
}

TEST_F(Deadline, ClosesTheQueueForEverythingThatFollows) {
  script.faults = {Fault::stuck()};
  start();
  IoTicket ticket = queue->submit(read_of(0, 1));
  EXPECT_THROW(ticket.wait(), DeadlineExceeded);
  EXPECT_THROW((void)queue->try_submit(read_of(1, 1)), DeadlineExceeded);
  EXPECT_THROW((void)queue->submit(read_of(1, 1)), DeadlineExceeded);
}

TEST_F(Deadline, FailsWhatHasNotBegunAndFinishesWhatIsUnderWay) {
  options.depth = 2;
  options.fail_after = milliseconds(1'000);
  script.faults = {Fault::stuck()};
  start();
  IoTicket lost = queue->submit(read_of(0, 1));
  IoTicket good = queue->submit(read_of(1, 1));
  good.wait();
  script.otherwise = Fault::stuck();
  std::vector<IoTicket> behind;
  for (std::size_t i = 2; i < 6; ++i) behind.push_back(queue->submit(read_of(i, 2)));
  EXPECT_THROW(lost.wait(), DeadlineExceeded);
  for (IoTicket& ticket : behind) EXPECT_THROW(ticket.wait(), DeadlineExceeded);
}

TEST_F(Deadline, BoundsRequestsThatTheBackendNeverAccepts) {
  script.refused_calls = 1'000'000;
  start();
  IoTicket ticket = queue->submit(read_of(0, 1));
  EXPECT_THROW(ticket.wait(), DeadlineExceeded);
}

TEST_F(Deadline, LeavesNobodyForACompletionThatArrivesAfterAll) {
  script.faults = {Fault::stuck(), Fault::stuck()};
  options.fail_after = milliseconds(1'000);
  start();
  IoTicket first = queue->submit(read_of(0, 1));
  script.wait_for_accepted(1);
  std::this_thread::sleep_for(milliseconds(500));
  IoTicket second = queue->submit(read_of(1, 1));
  EXPECT_THROW(first.wait(), DeadlineExceeded);
  script.release_held();
  second.wait();
  EXPECT_TRUE(block_arrived(1));
}

TEST_F(Deadline, DoesNotHangTheDestructors) {
  script.otherwise = Fault::stuck();
  start();
  const auto begin = steady_clock::now();
  { const IoTicket ticket = queue->submit(read_of(0, 4)); }
  queue.reset();
  EXPECT_LT(steady_clock::now() - begin, milliseconds(5'000));
}

}  // namespace
}  // namespace strata::aio::deadline_test
