#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <sstream>
#include <thread>
#include <vector>

#include "aio/aligned_buffer.h"
#include "aio/scripted_queue_fixture.h"
#include "aio/trapped_memory.h"
#include "strata/aio/backend.h"
#include "strata/aio/io_queue.h"
#include "strata/base/error.h"

// Requests that have not begun when a queue gives up never begin: their memory is the caller's.

namespace strata::aio::unstarted_test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

/// One thread of the threads engine, which stands still in its first transfer.
class StuckWorker : public testing::Test {
 protected:
  static constexpr std::uint32_t kBytes = 64 << 10;
  static constexpr std::size_t kRequests = 4;

  void SetUp() override {
    if (!trap.is_set()) GTEST_SKIP() << "userfaultfd is not permitted";
    file.preallocate(kRequests * kBytes);
    buffer.fill(kMine);
  }
  [[nodiscard]] bool buffer_is_as_it_was() {
    return std::ranges::all_of(buffer.span(), [](std::byte byte) { return byte == kMine; });
  }

  static constexpr std::byte kMine{0x5a};
  IoFile file = IoFile::create_scratch("/dev/shm");
  AlignedBuffer buffer{kRequests * kBytes};
  TrappedMemory trap{kBytes};
};

TEST_F(StuckWorker, GivesBackTheRequestsBehindItUntouched) {
  const auto backend = make_threads_backend(kRequests, 1);
  std::vector<Request> requests;
  for (std::uint64_t i = 0; i < kRequests; ++i) {
    std::byte* const data = i == 0 ? trap.span().data() : buffer.span(i * kBytes, kBytes).data();
    requests.push_back({OpKind::kRead, file.fd(), i * kBytes, data, kBytes, i});
  }
  ASSERT_EQ(backend->enqueue(requests), kRequests);
  ASSERT_TRUE(trap.wait_for_somebody());
  backend->drop_unstarted();
  std::vector<Completion> completions(kRequests);
  ASSERT_EQ(backend->reap(completions, seconds(30)), kRequests - 1);
  for (std::size_t i = 0; i + 1 < kRequests; ++i) EXPECT_EQ(completions[i].result, -ECANCELED);
  trap.release();
  ASSERT_EQ(backend->reap(completions, seconds(30)), 1u);
  EXPECT_EQ(completions[0].tag, 0u);
  EXPECT_EQ(completions[0].result, kBytes) << "what the kernel had comes home as it went";
  EXPECT_TRUE(buffer_is_as_it_was());
}

TEST_F(StuckWorker, LeavesTheBuffersOfOperationsThatWereGivenUpAlone) {
  std::ostringstream log_text;
  Logger log(log_text);
  IoQueue queue(
      {.depth = kRequests, .warn_after = milliseconds(50), .fail_after = milliseconds(300)},
      make_threads_backend(kRequests, 1), log);
  IoTicket stuck = queue.submit({OpKind::kRead, &file, 0, trap.span()});
  ASSERT_TRUE(trap.wait_for_somebody());
  IoTicket behind = queue.submit({OpKind::kRead, &file, 0, buffer.span()});
  EXPECT_THROW(stuck.wait(), DeadlineExceeded);
  EXPECT_THROW(behind.wait(), DeadlineExceeded);
  trap.release();
  std::this_thread::sleep_for(milliseconds(100));  // for a worker that goes on
  EXPECT_TRUE(buffer_is_as_it_was());
}

/// An engine that takes no more requests, or says nothing of them any more.
class BrokenEngine : public ScriptedQueue {};

TEST_F(BrokenEngine, StillBringsBackWhatItHasWhenItTakesNoMore) {
  script.faults = {Fault::stuck()};
  start();
  IoTicket in_flight = queue->submit(read_of(0, 1));
  script.wait_for_accepted(1);
  script.break_enqueue();
  IoTicket refused = queue->submit(read_of(1, 1));
  EXPECT_THAT(message_of<IoError>(refused), HasSubstr("nothing more goes through this queue"));
  EXPECT_FALSE(in_flight.done()) << "its buffer is the kernel's still";
  EXPECT_THROW((void)queue->submit(read_of(2, 1)), IoError);
  script.release_held();
  in_flight.wait();
  EXPECT_TRUE(block_arrived(0));
  EXPECT_EQ(script.drops(), 1);
}

TEST_F(BrokenEngine, GivesUpWhatItHasAtItsDeadline) {
  options.warn_after = milliseconds(20);
  options.fail_after = milliseconds(300);
  script.faults = {Fault::stuck()};
  start();
  IoTicket in_flight = queue->submit(read_of(0, 1));
  script.wait_for_accepted(1);
  script.break_enqueue();
  IoTicket refused = queue->submit(read_of(1, 1));
  EXPECT_THROW(refused.wait(), IoError);
  EXPECT_THROW(in_flight.wait(), DeadlineExceeded);
}

TEST_F(BrokenEngine, SaysWhoseBufferMayStillBeWrittenToWhenItGoesSilent) {
  options.depth = 1;
  script.otherwise = Fault::stuck();
  start();
  IoTicket lost = queue->submit(read_of(0, 1));
  script.wait_for_accepted(1);
  IoTicket unstarted = queue->submit(read_of(1, 1));
  script.break_reap();
  EXPECT_THAT(message_of<DeadlineExceeded>(lost), HasSubstr("buffer may still be written to"));
  EXPECT_THAT(message_of<IoError>(unstarted),
              testing::Not(HasSubstr("buffer may still be written to")));
}

}  // namespace
}  // namespace strata::aio::unstarted_test
