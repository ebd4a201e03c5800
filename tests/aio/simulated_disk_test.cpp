#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "aio/aligned_buffer.h"
#include "strata/aio/backend.h"
#include "strata/aio/io_channel.h"
#include "strata/aio/io_file.h"
#include "strata/aio/io_queue.h"
#include "strata/base/error.h"
#include "strata/base/log.h"
#include "support/message_of.h"
#include "support/simulated_disk.h"

namespace strata::aio::simulated_disk_test {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;
using support::caught;
using testing::HasSubstr;

class OnSimulatedDisk : public testing::Test {
 protected:
  static constexpr std::uint32_t kBlockBytes = 16 << 10;
  static constexpr std::size_t kBlocks = 64;
  static constexpr std::size_t kFileBytes = kBlocks * kBlockBytes;

  OnSimulatedDisk() {
    file.preallocate(kFileBytes);
    before.fill_randomly(31);
    put(before);
    options.depth = kBlocks;
    options.latency_min = options.latency_max = nanoseconds(0);
  }

  void put(AlignedBuffer& bytes) const {
    ASSERT_EQ(::pwrite(file.fd(), bytes.span().data(), kFileBytes, 0),
              static_cast<ssize_t>(kFileBytes));
  }
  AlignedBuffer get() const {
    AlignedBuffer bytes(kFileBytes);
    EXPECT_EQ(::pread(file.fd(), bytes.span().data(), kFileBytes, 0),
              static_cast<ssize_t>(kFileBytes));
    return bytes;
  }

  /// Sends every block once, in order, and returns the results by block; 1 for what stays out.
  std::vector<std::int64_t> move_every_block(OpKind kind, AlignedBuffer& buffer) {
    const std::unique_ptr<Backend> disk = make_simulated_backend(options);
    std::vector<Request> requests;
    for (std::size_t n = 0; n < kBlocks; ++n) {
      requests.push_back({kind, file.fd(), n * kBlockBytes, buffer.span().data() + n * kBlockBytes,
                          kBlockBytes, n});
    }
    EXPECT_EQ(disk->enqueue(requests), kBlocks);
    std::vector<std::int64_t> results(kBlocks, 1);
    std::vector<Completion> some(kBlocks);
    std::size_t count = 1;
    for (std::size_t left = kBlocks; left > 0 && count > 0; left -= count) {
      count = disk->reap(some, milliseconds(100));
      for (std::size_t i = 0; i < count; ++i) results[some[i].tag] = some[i].result;
    }
    return results;
  }

  std::span<std::byte> block(AlignedBuffer& buffer, std::size_t n) {
    return buffer.span(n * kBlockBytes, kBlockBytes);
  }
  /// Bytes from the start of block `n` that are the same in both.
  std::size_t equal_bytes(AlignedBuffer& a, AlignedBuffer& b, std::size_t n) {
    return static_cast<std::size_t>(std::ranges::mismatch(block(a, n), block(b, n)).in1 -
                                    block(a, n).begin());
  }
  std::size_t flipped_bits(AlignedBuffer& a, AlignedBuffer& b, std::size_t n) {
    std::size_t bits = 0;
    for (std::size_t i = 0; i < kBlockBytes; ++i) {
      const auto difference = std::to_integer<unsigned>(block(a, n)[i] ^ block(b, n)[i]);
      bits += static_cast<std::size_t>(std::popcount(difference));
    }
    return bits;
  }

  IoFile file = IoFile::create_scratch(std::filesystem::current_path());
  AlignedBuffer before{kFileBytes};
  DiskOptions options;
};

TEST_F(OnSimulatedDisk, WithoutFaultsMovesEveryByte) {
  AlignedBuffer buffer(kFileBytes);
  for (const std::int64_t result : move_every_block(OpKind::kRead, buffer)) {
    EXPECT_EQ(result, kBlockBytes);
  }
  EXPECT_TRUE(buffer == before);
  buffer.fill_randomly(32);
  move_every_block(OpKind::kWrite, buffer);
  EXPECT_TRUE(get() == buffer);
}

TEST_F(OnSimulatedDisk, MetersTheSameFatesToTheSameRequestsWhateverTheTimes) {
  options.chances = {{Fault::shortened(), 0.2}, {Fault::try_again(), 0.2},
                     {Fault::error(EIO), 0.2},  {Fault::torn(), 0.1},
                     {Fault::lost(), 0.1},      {Fault::flipped_bit(), 0.1}};
  AlignedBuffer buffer(kFileBytes);
  buffer.fill_randomly(33);
  const auto first = move_every_block(OpKind::kWrite, buffer);
  AlignedBuffer after_first = get();
  put(before);
  options.latency_max = milliseconds(5);
  EXPECT_EQ(move_every_block(OpKind::kWrite, buffer), first);
  EXPECT_TRUE(get() == after_first);
  put(before);
  options.seed = 2;
  EXPECT_NE(move_every_block(OpKind::kWrite, buffer), first);
}

TEST_F(OnSimulatedDisk, StrikesAboutAsOftenAsItIsTold) {
  options.chances = {{Fault::error(EIO), 0.5}};
  AlignedBuffer buffer(kFileBytes);
  const auto results = move_every_block(OpKind::kRead, buffer);
  EXPECT_THAT(std::ranges::count(results, -EIO), testing::AllOf(testing::Ge(16), testing::Le(48)));
}

TEST_F(OnSimulatedDisk, ReadsShortlyButRightly) {
  options.chances = {{Fault::shortened(), 1}};
  AlignedBuffer buffer(kFileBytes);
  const auto results = move_every_block(OpKind::kRead, buffer);
  for (std::size_t n = 0; n < kBlocks; ++n) {
    EXPECT_GE(results[n], 1);
    EXPECT_LT(results[n], kBlockBytes);
    EXPECT_GE(equal_bytes(buffer, before, n), static_cast<std::size_t>(results[n]));
    EXPECT_LT(equal_bytes(buffer, before, n), kBlockBytes) << "the rest came too";
  }
}

TEST_F(OnSimulatedDisk, WritesShortlyAndNoByteMore) {
  options.chances = {{Fault::shortened(), 1}};
  AlignedBuffer buffer(kFileBytes);
  buffer.fill_randomly(34);
  const auto results = move_every_block(OpKind::kWrite, buffer);
  AlignedBuffer after = get();
  for (std::size_t n = 0; n < kBlocks; ++n) {
    const auto moved = static_cast<std::ptrdiff_t>(results[n]);
    EXPECT_GE(moved, 1);
    EXPECT_LT(moved, static_cast<std::ptrdiff_t>(kBlockBytes));
    EXPECT_TRUE(std::equal(block(after, n).begin(), block(after, n).begin() + moved,
                           block(buffer, n).begin()));
    EXPECT_TRUE(std::equal(block(after, n).begin() + moved, block(after, n).end(),
                           block(before, n).begin() + moved));
  }
}

TEST_F(OnSimulatedDisk, AsksToTryAgainInBothWays) {
  options.chances = {{Fault::try_again(), 1}};
  AlignedBuffer buffer(kFileBytes);
  const auto results = move_every_block(OpKind::kRead, buffer);
  EXPECT_THAT(results, testing::Each(testing::AnyOf(-EINTR, -EAGAIN)));
  EXPECT_THAT(results, testing::AllOf(testing::Contains(-EINTR), testing::Contains(-EAGAIN)));
}

TEST_F(OnSimulatedDisk, FailsWithoutMovingAnything) {
  options.chances = {{Fault::error(EIO), 1}};
  AlignedBuffer buffer(kFileBytes);
  EXPECT_THAT(move_every_block(OpKind::kWrite, buffer), testing::Each(-EIO));
  EXPECT_TRUE(get() == before);
}

TEST_F(OnSimulatedDisk, TearsWritesThatItReportsAsWhole) {
  options.chances = {{Fault::torn(), 1}};
  AlignedBuffer buffer(kFileBytes);
  buffer.fill_randomly(35);
  EXPECT_THAT(move_every_block(OpKind::kWrite, buffer), testing::Each(kBlockBytes));
  AlignedBuffer after = get();
  for (std::size_t n = 0; n < kBlocks; ++n) {
    const std::size_t written = equal_bytes(after, buffer, n);
    EXPECT_GE(written, 1u);
    EXPECT_LT(written, kBlockBytes);
    EXPECT_TRUE(std::ranges::equal(block(after, n).subspan(written + 1),
                                   block(before, n).subspan(written + 1)));
  }
}

TEST_F(OnSimulatedDisk, LosesWritesThatItReportsAsWhole) {
  options.chances = {{Fault::lost(), 1}};
  AlignedBuffer buffer(kFileBytes);
  EXPECT_THAT(move_every_block(OpKind::kWrite, buffer), testing::Each(kBlockBytes));
  EXPECT_TRUE(get() == before);
}

TEST_F(OnSimulatedDisk, FlipsOneBitOnEitherWay) {
  options.chances = {{Fault::flipped_bit(), 1}};
  AlignedBuffer buffer(kFileBytes);
  EXPECT_THAT(move_every_block(OpKind::kRead, buffer), testing::Each(kBlockBytes));
  for (std::size_t n = 0; n < kBlocks; ++n) EXPECT_EQ(flipped_bits(buffer, before, n), 1u);
  EXPECT_TRUE(get() == before);
  buffer.fill_randomly(36);
  move_every_block(OpKind::kWrite, buffer);
  AlignedBuffer after = get();
  for (std::size_t n = 0; n < kBlocks; ++n) EXPECT_EQ(flipped_bits(buffer, after, n), 1u);
}

TEST_F(OnSimulatedDisk, TakesAndBringsTheBytesOfAnotherPlace) {
  options.chances = {{Fault::misdirected(kBlockBytes), 1}};
  AlignedBuffer buffer(kFileBytes);
  const auto results = move_every_block(OpKind::kRead, buffer);
  for (std::size_t n = 0; n + 1 < kBlocks; ++n) {
    EXPECT_EQ(results[n], kBlockBytes);
    EXPECT_TRUE(std::ranges::equal(block(buffer, n), block(before, n + 1)));
  }
}

TEST_F(OnSimulatedDisk, StrikesWritesAndReadsOnlyWithWhatCanHappenToThem) {
  options.chances = {{Fault::torn(), 0.5}, {Fault::error(ENOSPC), 0.5}};
  AlignedBuffer buffer(kFileBytes);
  move_every_block(OpKind::kRead, buffer);
  EXPECT_TRUE(buffer == before);
  options.chances = {{Fault::end_of_file(), 1}};
  buffer.fill_randomly(36);
  move_every_block(OpKind::kWrite, buffer);
  EXPECT_TRUE(get() == buffer);
}

TEST_F(OnSimulatedDisk, KeepsWhatNeverComesBackAndTouchesNothing) {
  options.chances = {{Fault::stuck(), 1}};
  options.depth = kBlocks;
  AlignedBuffer buffer(kFileBytes);
  EXPECT_THAT(move_every_block(OpKind::kRead, buffer), testing::Each(1));
  EXPECT_TRUE(buffer == AlignedBuffer(kFileBytes));
}

TEST_F(OnSimulatedDisk, TakesRealTimeWhereItHasNoOtherClock) {
  options.latency_min = options.latency_max = milliseconds(30);
  options.read_bytes_per_second = kFileBytes / 0.1;
  AlignedBuffer buffer(kFileBytes);
  const auto begin = steady_clock::now();
  move_every_block(OpKind::kRead, buffer);
  // 100 ms for the bytes, one after the other, and the latency of the last.
  EXPECT_GE(steady_clock::now() - begin, milliseconds(130));
}

TEST_F(OnSimulatedDisk, RefusesOptionsThatMakeNoSense) {
  const auto refuses = [](auto change) {
    DiskOptions changed;
    change(changed);
    EXPECT_THROW(SimulatedDisk{changed}, ConfigError);
  };
  refuses([](DiskOptions& o) { o.depth = 0; });
  refuses([](DiskOptions& o) { o.latency_min = o.latency_max + nanoseconds(1); });
  refuses([](DiskOptions& o) { o.read_bytes_per_second = 0; });
  refuses([](DiskOptions& o) { o.overlap = 1.1; });
  refuses([](DiskOptions& o) { o.chances = {{Fault::error(EIO), -0.1}}; });
  refuses([](DiskOptions& o) { o.chances = {{Fault::error(EIO), 0.6}, {Fault::torn(), 0.6}}; });
}

/// A channel on a simulated disk under a clock of the test's: one thread, and no waiting.
class ChannelOnSimulatedDisk : public OnSimulatedDisk {
 protected:
  void start() {
    channel.reset();
    disk = std::make_shared<SimulatedDisk>(options, &clock);
    disk->start_trace();
    channel.emplace(channel_options, make_backend(disk), log);
  }
  Operation blocks(OpKind kind, std::size_t first, std::size_t count) {
    return {kind, &file, first * kBlockBytes,
            buffer.span(first * kBlockBytes, count * kBlockBytes)};
  }
  /// The time until all of the blocks have moved, half of them read and half written.
  nanoseconds time_of_both_directions(double overlap) {
    options.overlap = overlap;
    options.read_bytes_per_second = kFileBytes / 2 / 0.100;
    options.write_bytes_per_second = kFileBytes / 2 / 0.040;
    start();
    const Time begin = clock.now();
    IoTicket reading = channel->submit(blocks(OpKind::kRead, 0, kBlocks / 2));
    IoTicket writing = channel->submit(blocks(OpKind::kWrite, kBlocks / 2, kBlocks / 2));
    reading.wait();
    writing.wait();
    return clock.now() - begin;
  }

  ManualClock clock;
  AlignedBuffer buffer{kFileBytes};
  std::ostringstream log_text;
  Logger log{log_text};
  IoQueueOptions channel_options{.block_bytes = kBlockBytes, .depth = kBlocks, .clock = &clock};
  std::shared_ptr<SimulatedDisk> disk;
  std::optional<IoChannel> channel;
};

TEST_F(ChannelOnSimulatedDisk, SetsTheClockToWhenAnOperationEnds) {
  options.latency_min = options.latency_max = milliseconds(30);
  options.read_bytes_per_second = kFileBytes / 0.1;
  start();
  const Time begin = clock.now();
  IoTicket ticket = channel->submit(blocks(OpKind::kRead, 0, kBlocks));
  EXPECT_EQ(clock.now(), begin) << "nothing but waiting takes time";
  EXPECT_FALSE(ticket.done());
  ticket.wait();
  EXPECT_NEAR(std::chrono::duration<double>(clock.now() - begin).count(), 0.130, 1e-6);
  EXPECT_TRUE(buffer == before);
}

TEST_F(ChannelOnSimulatedDisk, SharesItsTimeBetweenReadsAndWritesAsFarAsTheyDoNotOverlap) {
  const auto seconds = [](nanoseconds time) { return std::chrono::duration<double>(time).count(); };
  EXPECT_NEAR(seconds(time_of_both_directions(0)), 0.140, 1e-6);
  EXPECT_NEAR(seconds(time_of_both_directions(0.5)), 0.120, 1e-6);
  EXPECT_NEAR(seconds(time_of_both_directions(1)), 0.100, 1e-6);
}

TEST_F(ChannelOnSimulatedDisk, IsBusyWhileAnOperationIsUnderWayAndNotBetween) {
  const nanoseconds both = time_of_both_directions(0);
  EXPECT_EQ(channel->statistics().busy, both) << "two that overlap count once";
  clock.advance(milliseconds(500));
  EXPECT_EQ(channel->statistics().busy, both);
  const IoTicket ticket = channel->submit(blocks(OpKind::kRead, 0, kBlocks / 4));
  clock.advance(milliseconds(10));
  EXPECT_EQ(channel->statistics().busy, both + milliseconds(10)) << "one that is under way too";
}

TEST_F(ChannelOnSimulatedDisk, RepeatsItsFatesAndTimesForTheSameSeed) {
  options.latency_max = std::chrono::microseconds(300);
  options.chances = {{Fault::shortened(), 0.2}, {Fault::slow(milliseconds(3)), 0.1}};
  const auto trace_of = [&](std::uint64_t seed) {
    options.seed = seed;
    start();
    channel->submit(blocks(OpKind::kRead, 0, kBlocks)).wait();
    return disk->trace();
  };
  const std::vector<DiskEvent> first = trace_of(7);
  EXPECT_GT(first.size(), kBlocks) << "the rest of what was short";
  EXPECT_EQ(trace_of(7), first);
  EXPECT_NE(trace_of(8), first);
}

TEST_F(ChannelOnSimulatedDisk, GivesUpAtTheDeadlineWhatIsStuckWithoutWaitingForIt) {
  start();
  disk->inject(OpKind::kRead, Fault::stuck());
  const Time begin = clock.now();
  IoTicket ticket = channel->submit(blocks(OpKind::kRead, 0, 2));
  EXPECT_THROW(ticket.wait(), DeadlineExceeded);
  EXPECT_EQ(clock.now() - begin, channel_options.fail_after);
}

TEST_F(ChannelOnSimulatedDisk, StrikesTheRequestsThatARuleChooses) {
  start();
  disk->inject({.fault = Fault::error(EIO),
                .chooses = [](const Request& request) { return request.offset >= kBlockBytes; },
                .skipped = 1,
                .times = 1});
  std::vector<std::size_t> failed;
  for (std::size_t n = 0; n < 4; ++n) {
    try {
      channel->submit(blocks(OpKind::kRead, n, 1)).wait();
    } catch (const IoError&) {
      failed.push_back(n);
    }
  }
  EXPECT_THAT(failed, testing::ElementsAre(2));
}

TEST_F(ChannelOnSimulatedDisk, DeliversNothingWhileItIsHeld) {
  start();
  disk->hold();
  const IoTicket ticket = channel->submit(blocks(OpKind::kRead, 0, 1));
  clock.advance(std::chrono::seconds(1));
  EXPECT_FALSE(ticket.done());
  disk->release();
  EXPECT_TRUE(ticket.done());
}

/// The real queue over a simulated disk.
class QueueOnSimulatedDisk : public OnSimulatedDisk {
 protected:
  void start() {
    queue = std::make_unique<IoQueue>(queue_options, make_simulated_backend(options), log);
  }
  Operation whole_file(OpKind kind) { return {kind, &file, 0, buffer.span()}; }

  AlignedBuffer buffer{kFileBytes};
  std::ostringstream log_text;
  Logger log{log_text};
  IoQueueOptions queue_options{.block_bytes = kBlockBytes, .depth = 8};
  std::unique_ptr<IoQueue> queue;
};

TEST_F(QueueOnSimulatedDisk, CarriesEveryByteAcrossShortTransfersAndRetries) {
  // Less than a sector is no progress, and ten attempts without any are a failure: not too often.
  options.chances = {{Fault::shortened(), 0.15}, {Fault::try_again(), 0.05}};
  options.latency_max = std::chrono::microseconds(300);
  for (options.seed = 1; options.seed <= 5; ++options.seed) {
    start();
    buffer.fill_randomly(options.seed);
    queue->submit(whole_file(OpKind::kWrite)).wait();
    EXPECT_TRUE(get() == buffer) << "seed " << options.seed;
    AlignedBuffer written = std::exchange(buffer, AlignedBuffer(kFileBytes));
    queue->submit(whole_file(OpKind::kRead)).wait();
    EXPECT_TRUE(buffer == written) << "seed " << options.seed;
    EXPECT_GT(queue->statistics().short_transfers, 0u);
    EXPECT_GT(queue->statistics().retries, 0u);
    EXPECT_EQ(queue->statistics().bytes_read, kFileBytes);
  }
}

TEST_F(QueueOnSimulatedDisk, SaysWhichTransferFailed) {
  options.chances = {{Fault::error(EIO), 0.2}};
  start();
  IoTicket ticket = queue->submit(whole_file(OpKind::kRead));
  const auto error = caught<IoError>([&] { ticket.wait(); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), EIO);
  EXPECT_THAT(error->what(), HasSubstr("read of " + file.path().string()));
}

TEST_F(QueueOnSimulatedDisk, WarnsOfWhatDoesNotComeBackAndThenFailsIt) {
  options.chances = {{Fault::stuck(), 1}};
  queue_options.warn_after = milliseconds(50);
  queue_options.fail_after = milliseconds(400);
  queue_options.depth = 2;
  start();
  const auto begin = steady_clock::now();
  IoTicket ticket = queue->submit(whole_file(OpKind::kRead));
  EXPECT_THROW(ticket.wait(), DeadlineExceeded);
  EXPECT_GE(steady_clock::now() - begin, queue_options.fail_after);
  EXPECT_THAT(log_text.str(), HasSubstr("warning: read of " + file.path().string()));
  EXPECT_THROW((void)queue->try_submit(whole_file(OpKind::kRead)), DeadlineExceeded);
  EXPECT_TRUE(buffer == AlignedBuffer(kFileBytes));
}

TEST_F(QueueOnSimulatedDisk, WithLostRequestsEndsInTime) {
  options.chances = {{Fault::stuck(), 0.3}};
  queue_options.warn_after = queue_options.fail_after = milliseconds(200);
  start();
  const auto begin = steady_clock::now();
  { const IoTicket dropped = queue->submit(whole_file(OpKind::kWrite)); }
  queue.reset();
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(20));
}

}  // namespace
}  // namespace strata::aio::simulated_disk_test
