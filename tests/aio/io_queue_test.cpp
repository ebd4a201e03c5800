#include "strata/aio/io_queue.h"

#include <thread>
#include <utility>
#include <vector>

#include "aio/scripted_queue_fixture.h"
#include "support/message_of.h"

namespace strata::aio::io_queue_test {
namespace {

using support::caught;
using testing::HasSubstr;

using IoQueueSplitting = ScriptedQueue;
using IoQueueShortTransfers = ScriptedQueue;
using IoQueueRetries = ScriptedQueue;
using IoQueueErrors = ScriptedQueue;
using IoQueueRoom = ScriptedQueue;
using IoQueueTickets = ScriptedQueue;
using IoQueueEnd = ScriptedQueue;
using IoQueuePlace = ScriptedQueue;
using IoQueueOptionsCheck = ScriptedQueue;

TEST_F(IoQueueSplitting, CutsAnOperationIntoBlocksInOrder) {
  start();
  queue->submit(read_of(2, 5)).wait();
  const std::vector<Request> requests = script.requests();
  ASSERT_EQ(requests.size(), 5u);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(requests[i].offset, (2 + i) * kBlockBytes);
    EXPECT_EQ(requests[i].bytes, kBlockBytes);
    EXPECT_TRUE(block_arrived(2 + i));
  }
}

TEST_F(IoQueueSplitting, EndsWithASmallerBlock) {
  start();
  Operation operation = read_of(0, 2);
  operation.buffer = operation.buffer.first(kBlockBytes + 4_KiB);
  queue->submit(operation).wait();
  ASSERT_EQ(script.requests().size(), 2u);
  EXPECT_EQ(script.requests()[1].bytes, 4_KiB);
}

TEST_F(IoQueueSplitting, StartsOperationsInSubmissionOrderAndNeverExceedsTheDepth) {
  script.otherwise = Fault::stuck();
  start();
  std::vector<IoTicket> tickets;
  for (std::size_t i = 0; i < 4; ++i) tickets.push_back(queue->submit(read_of(4 * i, 4)));
  for (std::size_t seen = 4; seen <= kFileBlocks; seen += 4) {
    script.wait_for_accepted(seen);
    script.release_held();
  }
  for (IoTicket& ticket : tickets) ticket.wait();
  const std::vector<Request> requests = script.requests();
  for (std::size_t i = 0; i < kFileBlocks; ++i) EXPECT_EQ(requests[i].offset, i * kBlockBytes);
  EXPECT_EQ(script.in_flight_max(), options.depth);
}

TEST_F(IoQueueSplitting, KeepsWhatAFullBackendDidNotAccept) {
  script.accepted_per_call = 1;
  script.refused_calls = 3;
  start();
  queue->submit(read_of(0, kFileBlocks)).wait();
  EXPECT_TRUE(buffer == on_disk);
  EXPECT_EQ(script.requests().size(), kFileBlocks);
}

TEST_F(IoQueueSplitting, UsesNoMoreThanTheBackendsCapacity) {
  script.capacity = 2;
  script.accepted_per_call = 64;
  start();
  queue->submit(read_of(0, kFileBlocks)).wait();
  EXPECT_LE(script.in_flight_max(), 2u);
}

TEST_F(IoQueueShortTransfers, AreFinishedByAskingForTheRest) {
  const auto step = static_cast<int>(file.alignment());
  script.faults = {Fault::shortened_to(step), Fault::shortened_to(3 * step), Fault::none()};
  start();
  queue->submit(read_of(1, 1)).wait();
  EXPECT_TRUE(block_arrived(1));
  EXPECT_EQ(script.requests()[1].offset, kBlockBytes + file.alignment());
  EXPECT_EQ(script.requests()[2].offset, kBlockBytes + 4 * file.alignment());
  EXPECT_EQ(queue->statistics().short_transfers, 2u);
  EXPECT_EQ(queue->statistics().bytes_read, kBlockBytes);
}

TEST_F(IoQueueShortTransfers, OfWritesReachTheDiskInFull) {
  script.faults = {Fault::shortened_to(static_cast<int>(file.alignment()))};
  buffer.fill_randomly(2);
  start();
  queue->submit(write_of(3, 1)).wait();
  AlignedBuffer back(kBlockBytes);
  ASSERT_EQ(::pread(file.fd(), back.span().data(), kBlockBytes, 3 * kBlockBytes), kBlockBytes);
  EXPECT_TRUE(std::ranges::equal(back.span(), buffer.span(3 * kBlockBytes, kBlockBytes)));
  EXPECT_EQ(queue->statistics().bytes_written, kBlockBytes);
}

TEST_F(IoQueueShortTransfers, ThatMoveNothingFailAReadAsEndOfFile) {
  script.faults = {Fault::shortened_to(0)};
  start();
  IoTicket ticket = queue->submit(read_of(1, 1));
  const std::string message = message_of<IoError>(ticket);
  EXPECT_THAT(message, HasSubstr("read of " + file.path().string()));
  EXPECT_THAT(message, HasSubstr("at offset 65536, 65536 bytes"));
  EXPECT_THAT(message, HasSubstr("end of file"));
}

TEST_F(IoQueueShortTransfers, ThatMoveNothingForEverFailAWrite) {
  script.otherwise = Fault::shortened_to(0);
  start();
  IoTicket ticket = queue->submit(write_of(1, 1));
  EXPECT_THAT(message_of<IoError>(ticket), HasSubstr("EIO"));
  EXPECT_LE(script.requests().size(), 20u);
}

TEST_F(IoQueueRetries, TryAgainAfterEintrAndEagain) {
  script.faults = {Fault::error(EINTR), Fault::error(EAGAIN), Fault::error(EINTR), Fault::none()};
  start();
  queue->submit(read_of(5, 1)).wait();
  EXPECT_TRUE(block_arrived(5));
  EXPECT_EQ(queue->statistics().retries, 3u);
}

TEST_F(IoQueueRetries, AreBounded) {
  for (const int code : {EAGAIN, EINTR}) {
    queue.reset();  // two queues would take each other's wakes
    script.otherwise = Fault::error(code);
    start();
    IoTicket ticket = queue->submit(read_of(0, 1));
    EXPECT_THAT(message_of<IoError>(ticket), HasSubstr(errno_name(code)));
    EXPECT_LE(queue->statistics().requests, 20u);
  }
}

TEST_F(IoQueueErrors, NamePathOffsetLengthErrnoAndTheNextStep) {
  script.faults = {Fault::none(), Fault::error(EIO)};
  start();
  IoTicket ticket = queue->submit(read_of(0, 2));
  const auto error = caught<IoError>([&] { ticket.wait(); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), EIO);
  EXPECT_THAT(error->what(), HasSubstr("read of " + file.path().string()));
  EXPECT_THAT(error->what(), HasSubstr("at offset 65536, 65536 bytes"));
  EXPECT_THAT(error->what(), HasSubstr("(EIO)"));
  EXPECT_THAT(error->what(), HasSubstr("dmesg"));
}

TEST_F(IoQueueErrors, OfAFullDiskSaySo) {
  script.faults = {Fault::error(ENOSPC)};
  start();
  IoTicket ticket = queue->submit(write_of(0, 1));
  const std::string message = message_of<IoError>(ticket);
  EXPECT_THAT(message, HasSubstr("write of "));
  EXPECT_THAT(message, HasSubstr("ENOSPC"));
  EXPECT_THAT(message, HasSubstr("free some space"));
}

TEST_F(IoQueueErrors, AreReportedOnlyWhenNoRequestCanTouchTheBufferAnyMore) {
  script.faults = {Fault::stuck(), Fault::error(EIO)};
  start();
  IoTicket ticket = queue->submit(read_of(0, 2));
  script.wait_for_accepted(2);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(ticket.done());
  script.release_held();
  EXPECT_THROW(ticket.wait(), IoError);
}

TEST_F(IoQueueErrors, StopTheRestOfTheOperationButNotTheNextOne) {
  script.faults = {Fault::error(EIO)};
  options.depth = 1;
  start();
  IoTicket failing = queue->submit(read_of(0, 8));
  EXPECT_THROW(failing.wait(), IoError);
  EXPECT_EQ(script.requests().size(), 1u);
  queue->submit(read_of(9, 1)).wait();
  EXPECT_TRUE(block_arrived(9));
}

TEST_F(IoQueueErrors, OfTheEngineItselfFailEverythingAndCloseTheQueue) {
  script.otherwise = Fault::stuck();
  script.throws_from_reap = true;
  start();
  try {
    IoTicket first = queue->submit(read_of(0, 1));
    EXPECT_THAT(message_of<IoError>(first), HasSubstr("EBADF"));
  } catch (const IoError& error) {  // the engine broke before the operation came
    EXPECT_EQ(error.code(), EBADF);
  }
  EXPECT_THROW((void)queue->try_submit(read_of(1, 1)), IoError);
}

TEST_F(IoQueueRoom, IsAnsweredWithNotNowWhenThereIsNone) {
  script.otherwise = Fault::stuck();
  options.operations_max = 2;
  start();
  std::optional<IoTicket> first = queue->try_submit(read_of(0, 1));
  std::optional<IoTicket> second = queue->try_submit(read_of(1, 1));
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(queue->try_submit(read_of(2, 1)));
  script.wait_for_accepted(2);
  script.release_held();
  first->wait();
  const std::optional<IoTicket> third = queue->try_submit(read_of(2, 1));
  EXPECT_TRUE(third);
  script.wait_for_accepted(3);
  script.release_held();
}

TEST_F(IoQueueRoom, IsWaitedForBySubmit) {
  script.faults = {Fault::stuck()};
  options.operations_max = 1;
  start();
  IoTicket first = queue->submit(read_of(0, 1));
  script.wait_for_accepted(1);
  std::jthread releaser([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    script.release_held();
  });
  queue->submit(read_of(1, 1)).wait();
  EXPECT_TRUE(first.done());
}

TEST_F(IoQueueRoom, IsNotTakenByFinishedOperationsWhoseTicketsAreKept) {
  options.operations_max = 1;
  start();
  std::vector<IoTicket> kept;
  for (std::size_t i = 0; i < kFileBlocks; ++i) kept.push_back(queue->submit(read_of(i, 1)));
  for (IoTicket& ticket : kept) ticket.wait();
  EXPECT_TRUE(buffer == on_disk);
}

TEST_F(IoQueueRoom, HeldByFailedOperationsAloneIsAnErrorRatherThanAHang) {
  script.faults = {Fault::error(EIO)};
  options.operations_max = 1;
  start();
  IoTicket failed = queue->submit(read_of(0, 1));
  try {
    (void)queue->submit(read_of(1, 1));
    ADD_FAILURE() << "there was no room";
  } catch (const IoError& error) {
    EXPECT_EQ(error.code(), EBUSY);
    EXPECT_THAT(error.what(), HasSubstr("all 1 places are held by operations that failed"));
  }
  EXPECT_THROW(failed.wait(), IoError);
  queue->submit(read_of(1, 1)).wait();
}

TEST_F(IoQueueTickets, WaitInTheirDestructorAndDropTheirError) {
  script.faults = {Fault::stuck(), Fault::error(EIO)};
  start();
  std::jthread releaser([&] {
    script.wait_for_accepted(1);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    script.release_held();
  });
  { const IoTicket dropped = queue->submit(read_of(0, 1)); }
  EXPECT_TRUE(block_arrived(0));
  { const IoTicket failing = queue->submit(read_of(1, 1)); }
  queue->submit(read_of(2, 1)).wait();
}

TEST_F(IoQueueTickets, MoveTheirDuty) {
  script.faults = {Fault::none(), Fault::error(EIO)};
  start();
  IoTicket ticket = queue->submit(read_of(0, 1));
  ticket = queue->submit(read_of(1, 1));  // settles the first
  EXPECT_TRUE(block_arrived(0));
  IoTicket owner = std::move(ticket);
  EXPECT_THROW(owner.wait(), IoError);
}

TEST_F(IoQueueTickets, RefuseASecondWait) {
  start();
  IoTicket ticket = queue->submit(read_of(0, 1));
  ticket.wait();
  EXPECT_TRUE(ticket.done());
  EXPECT_THROW(ticket.wait(), UsageError);
}

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
  good.wait();
  EXPECT_THAT(message_of<IoError>(failed), HasSubstr("EIO"));
  waiting.wait();
  EXPECT_TRUE(block_arrived(0) && block_arrived(9));
}

TEST_F(IoQueuePlace, IsTheNodeThatTheOptionsName) {
  options.numa_node = 0;
  start();
  queue->submit(read_of(0, 4)).wait();
  queue.reset();
  EXPECT_THAT(log_text.str(), testing::Not(HasSubstr("NUMA")));
  EXPECT_TRUE(block_arrived(3));
}

TEST_F(IoQueuePlace, ThatDoesNotExistIsAWarningAndWorkGoesOnWhereItIs) {
  options.numa_node = 4095;
  start();
  queue->submit(read_of(0, 4)).wait();
  queue.reset();
  EXPECT_THAT(log_text.str(), HasSubstr("not bound to NUMA node 4095: node 4095 does not exist"));
  EXPECT_TRUE(block_arrived(3));
}

TEST_F(IoQueueOptionsCheck, RefusesValuesOutOfRange) {
  const auto refuses = [&](auto change) {
    IoQueueOptions changed = options;
    change(changed);
    EXPECT_THROW(IoQueue(changed, make_backend(), log), ConfigError);
  };
  refuses([](IoQueueOptions& o) { o.block_bytes = 0; });
  refuses([](IoQueueOptions& o) { o.block_bytes = 4097; });
  refuses([](IoQueueOptions& o) { o.block_bytes = 2u << 30; });
  refuses([](IoQueueOptions& o) { o.depth = 0; });
  refuses([](IoQueueOptions& o) { o.threads = 0; });
  refuses([](IoQueueOptions& o) { o.operations_max = 0; });
  refuses([](IoQueueOptions& o) { o.fail_after = o.warn_after / 2; });
}

}  // namespace
}  // namespace strata::aio::io_queue_test
