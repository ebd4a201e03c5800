#include "strata/aio/io_channel.h"

#include <array>
#include <thread>
#include <vector>

#include "aio/scripted_queue_fixture.h"

namespace strata::aio::io_channel_test {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using testing::HasSubstr;

constexpr seconds kPatience{30};

/// A channel over a scripted backend, on the fixture's file.
class IoChannelTest : public ScriptedQueue {
 protected:
  void start() { channel.emplace(options, make_backend(), log); }

  /// The next operation to finish. Its tag is kNoTag when none does.
  IoOutcome next_outcome() {
    std::array<IoOutcome, 1> outcomes{IoOutcome{.tag = kNoTag, .error = nullptr}};
    (void)channel->reap(outcomes, kPatience);
    return outcomes[0];
  }
  template <typename E>
  static std::string message_of(const IoOutcome& outcome) {
    return support::message_of<E>([&] {
      if (outcome.error) std::rethrow_exception(outcome.error);
    });
  }

  static constexpr std::uint64_t kNoTag = ~std::uint64_t{0};
  std::optional<IoChannel> channel;
};

TEST_F(IoChannelTest, HandsBackEveryOperationOnceUnderItsTag) {
  options.operations_max = kFileBlocks;
  start();
  for (std::size_t i = 0; i < kFileBlocks; ++i) {
    ASSERT_TRUE(channel->try_submit(read_of(i, 1), 100 + i));
  }
  std::vector<int> seen(kFileBlocks);
  while (channel->unfinished() > 0) {
    const IoOutcome outcome = next_outcome();
    ASSERT_EQ(outcome.error, nullptr);
    ASSERT_LT(outcome.tag - 100, kFileBlocks);
    ++seen[outcome.tag - 100];
  }
  EXPECT_EQ(seen, std::vector<int>(kFileBlocks, 1));
  EXPECT_TRUE(buffer == on_disk);
  EXPECT_EQ(channel->statistics().bytes_read, kFileBlocks * kBlockBytes);
}

TEST_F(IoChannelTest, StartsNothingBeforeReap) {
  start();
  ASSERT_TRUE(channel->try_submit(read_of(0, 1), 7));
  EXPECT_TRUE(script.requests().empty());
  EXPECT_EQ(next_outcome().tag, 7u);
}

TEST_F(IoChannelTest, KeepsTheDepthFullAcrossOperations) {
  script.otherwise = Fault::stuck();
  start();
  for (std::size_t i = 0; i < 3; ++i) ASSERT_TRUE(channel->try_submit(read_of(3 * i, 3), i));
  std::array<IoOutcome, 1> outcomes;
  EXPECT_EQ(channel->reap(outcomes, nanoseconds(0)), 0u);
  EXPECT_EQ(script.requests().size(), options.depth);
  script.release_held();
  EXPECT_EQ(next_outcome().tag, 0u);
  EXPECT_EQ(channel->reap(outcomes, nanoseconds(0)), 0u);
  EXPECT_EQ(script.requests().size(), 2 * options.depth);
  script.otherwise = Fault::none();
  script.release_held();
}

TEST_F(IoChannelTest, AnswersNotNowUntilAnOutcomeWasHandedBack) {
  options.operations_max = 2;
  start();
  EXPECT_TRUE(channel->try_submit(read_of(0, 1), 0));
  EXPECT_TRUE(channel->try_submit(read_of(1, 1), 1));
  EXPECT_FALSE(channel->try_submit(read_of(2, 1), 2));
  EXPECT_EQ(channel->unfinished(), 2u);
  EXPECT_NE(next_outcome().tag, kNoTag);
  EXPECT_EQ(channel->unfinished(), 1u);
  EXPECT_TRUE(channel->try_submit(read_of(2, 1), 2));
}

TEST_F(IoChannelTest, StoresNoMoreThanThereIsRoomForAndTheRestNextTime) {
  start();
  for (std::size_t i = 0; i < 4; ++i) ASSERT_TRUE(channel->try_submit(read_of(i, 1), i));
  std::array<IoOutcome, 3> outcomes;
  EXPECT_EQ(channel->reap(outcomes, kPatience), 3u);
  EXPECT_EQ(channel->reap(outcomes, kPatience), 1u);
  EXPECT_EQ(outcomes[0].tag, 3u);
}

TEST_F(IoChannelTest, ReapReturnsAtOnceWhenNothingIsUnfinishedAndAfterItsTimeWhenNothingEnds) {
  script.otherwise = Fault::stuck();
  start();
  std::array<IoOutcome, 1> outcomes;
  EXPECT_EQ(channel->reap(outcomes, nanoseconds::max()), 0u);
  ASSERT_TRUE(channel->try_submit(read_of(0, 1), 0));
  const auto begin = steady_clock::now();
  EXPECT_EQ(channel->reap(outcomes, milliseconds(30)), 0u);
  EXPECT_GE(steady_clock::now() - begin, milliseconds(30));
  script.release_held();
  EXPECT_EQ(channel->reap(outcomes, nanoseconds::max()), 1u);
}

TEST_F(IoChannelTest, FinishesShortTransfersAndTriesAgainAsTheQueueDoes) {
  script.faults = {Fault::error(EINTR), Fault::shortened_to(4096), Fault::error(EAGAIN)};
  start();
  ASSERT_TRUE(channel->try_submit(read_of(1, 2), 5));
  EXPECT_EQ(next_outcome().error, nullptr);
  EXPECT_TRUE(block_arrived(1) && block_arrived(2));
  EXPECT_EQ(channel->statistics().retries, 2u);
  EXPECT_EQ(channel->statistics().short_transfers, 1u);
}

TEST_F(IoChannelTest, HandsBackTheErrorOfTheOperationThatFailedAndItsPlace) {
  script.faults = {Fault::none(), Fault::error(EIO)};
  options.operations_max = 1;
  start();
  ASSERT_TRUE(channel->try_submit(read_of(0, 2), 3));
  const IoOutcome failed = next_outcome();
  EXPECT_EQ(failed.tag, 3u);
  const std::string message = message_of<IoError>(failed);
  EXPECT_THAT(message, HasSubstr("at offset 65536, 65536 bytes"));
  EXPECT_THAT(message, HasSubstr("(EIO)"));
  ASSERT_TRUE(channel->try_submit(read_of(4, 1), 4));
  EXPECT_EQ(next_outcome().error, nullptr);
}

TEST_F(IoChannelTest, RefusesWhatTheQueueRefuses) {
  options.depth = 0;
  EXPECT_THROW(start(), ConfigError);
  options.depth = 4;
  start();
  Operation misaligned = read_of(0, 1);
  misaligned.offset = 1;
  EXPECT_THROW((void)channel->try_submit(misaligned, 0), UsageError);
  EXPECT_EQ(channel->unfinished(), 0u);
}

TEST_F(IoChannelTest, GivesUpATransferThatNeverComesBackAndEverythingAfterIt) {
  options.warn_after = milliseconds(20);
  options.fail_after = milliseconds(60);
  script.otherwise = Fault::stuck();
  start();
  ASSERT_TRUE(channel->try_submit(read_of(0, 1), 1));
  EXPECT_THAT(message_of<DeadlineExceeded>(next_outcome()), HasSubstr("stuck"));
  EXPECT_THROW((void)channel->try_submit(read_of(1, 1), 2), DeadlineExceeded);
}

TEST_F(IoChannelTest, TakesBackWhatWasAcceptedWhenItIsDestroyed) {
  options.depth = 2;
  start();
  ASSERT_TRUE(channel->try_submit(read_of(0, 8), 0));
  ASSERT_TRUE(channel->try_submit(read_of(8, 8), 1));
  channel.reset();
  EXPECT_TRUE(buffer == on_disk);
}

TEST_F(IoChannelTest, DoesNotHangInItsDestructorOverALostTransfer) {
  options.warn_after = milliseconds(20);
  options.fail_after = milliseconds(60);
  script.otherwise = Fault::stuck();
  start();
  ASSERT_TRUE(channel->try_submit(read_of(0, 8), 0));
  const auto begin = steady_clock::now();
  channel.reset();
  EXPECT_LT(steady_clock::now() - begin, kPatience);
}

}  // namespace
}  // namespace strata::aio::io_channel_test
