#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "aio/aligned_buffer.h"
#include "aio/environment.h"
#include "strata/aio/io_channel.h"
#include "strata/aio/io_queue.h"
#include "strata/base/error.h"
#include "strata/base/log.h"
#include "strata/base/units.h"
#include "support/same_bytes.h"

/// \file
/// Promises of every I/O engine through IoQueue, on every kind of file system. To hold another
/// engine to it, include this file and instantiate AioContract with the engine's cases. An engine
/// and an environment that this machine cannot give are skipped.

namespace strata::aio {

struct AioCase {
  std::string name;
  IoBackend backend;
  std::function<EnvironmentPtr()> make_environment;
  std::function<std::unique_ptr<Backend>()> make_backend = nullptr;  ///< instead of `backend`
};

inline void PrintTo(const AioCase& test, std::ostream* out) { *out << test.name; }

class AioContract : public testing::TestWithParam<AioCase> {
 protected:
  static constexpr std::uint32_t kBlockBytes = 64 << 10;
  static constexpr std::size_t kFileBytes = 4 << 20;

  void SetUp() override {
    if (const std::string refusal = refusal_of(GetParam().backend); !refusal.empty()) {
      GTEST_SKIP() << refusal;
    }
    try {
      environment = GetParam().make_environment();
    } catch (const Unavailable& unavailable) {
      GTEST_SKIP() << unavailable.what();
    }
    file.emplace(IoFile::create_scratch(environment->directory()));
    file->preallocate(kFileBytes);
    start();
  }

  /// Why the kernel has not got this engine: the only excuse for not having it. Asked once.
  static std::string refusal_of(IoBackend kind) {
    static std::map<IoBackend, std::string> refusals;
    const auto [place, is_new] = refusals.try_emplace(kind);
    try {
      if (is_new && kind == IoBackend::kIoUring) (void)make_io_uring_backend(1);
      if (is_new && kind == IoBackend::kLibaio) (void)make_libaio_backend(1);
    } catch (const IoError& error) {
      place->second = error.what();
    }
    return place->second;
  }

  void start() {
    queue.reset();
    if (GetParam().make_backend) {
      queue = std::make_unique<IoQueue>(options, GetParam().make_backend(), log);
    } else {
      queue = std::make_unique<IoQueue>(options, environment->directory(), log);
    }
  }

  Operation operation(OpKind kind, std::uint64_t offset, std::span<std::byte> buffer) const {
    return {.kind = kind, .file = &*file, .offset = offset, .buffer = buffer};
  }
  Operation write_of(std::uint64_t offset, std::span<std::byte> buffer) const {
    return operation(OpKind::kWrite, offset, buffer);
  }
  Operation read_of(std::uint64_t offset, std::span<std::byte> buffer) const {
    return operation(OpKind::kRead, offset, buffer);
  }

  void read_plainly(AlignedBuffer& into) const {
    ASSERT_EQ(::pread(file->fd(), into.span().data(), into.span().size(), 0),
              static_cast<ssize_t>(into.span().size()));
  }
  void write_plainly(AlignedBuffer& from) const {
    ASSERT_EQ(::pwrite(file->fd(), from.span().data(), from.span().size(), 0),
              static_cast<ssize_t>(from.span().size()));
  }

  /// An aligned piece of the file of a random place and size, at most `bytes_max` long.
  std::pair<std::uint64_t, std::size_t> random_piece(std::mt19937_64& random,
                                                     std::size_t bytes_max) const {
    const std::size_t unit = file->alignment();
    const std::size_t bytes = (1 + random() % (bytes_max / unit)) * unit;
    const std::uint64_t offset = random() % ((kFileBytes - bytes) / unit + 1) * unit;
    return {offset, bytes};
  }

  std::ostringstream log_text;
  Logger log{log_text};
  IoQueueOptions options{
      .backend = GetParam().backend, .block_bytes = kBlockBytes, .depth = 8, .operations_max = 64};
  EnvironmentPtr environment;
  std::optional<IoFile> file;
  std::unique_ptr<IoQueue> queue;
};

TEST_P(AioContract, RandomWritesLeaveTheFileThatPlainWritesWouldLeave) {
  AlignedBuffer expected(kFileBytes);
  write_plainly(expected);
  std::mt19937_64 random(11);
  AlignedBuffer source(5 * kBlockBytes);
  for (int round = 0; round < 40; ++round) {
    source.fill_randomly(random());
    const auto [offset, bytes] = random_piece(random, source.span().size());
    queue->submit(write_of(offset, source.span(0, bytes))).wait();
    std::ranges::copy(source.span(0, bytes), expected.span(offset, bytes).begin());
  }
  AlignedBuffer actual(kFileBytes);
  read_plainly(actual);
  EXPECT_TRUE(actual == expected);
}

TEST_P(AioContract, RandomReadsBringWhatPlainReadsBringAndTouchNothingElse) {
  AlignedBuffer on_disk(kFileBytes);
  on_disk.fill_randomly(12);
  write_plainly(on_disk);
  std::mt19937_64 random(13);
  for (int round = 0; round < 40; ++round) {
    AlignedBuffer target(7 * kBlockBytes);
    AlignedBuffer expected(7 * kBlockBytes);
    const auto [offset, bytes] = random_piece(random, 5 * kBlockBytes);
    queue->submit(read_of(offset, target.span(kBlockBytes, bytes))).wait();
    std::ranges::copy(on_disk.span(offset, bytes), expected.span(kBlockBytes, bytes).begin());
    ASSERT_TRUE(target == expected) << "offset " << offset << ", " << bytes << " bytes";
  }
}

TEST_P(AioContract, ManyOperationsInFlightAllFinishWithTheirOwnBytes) {
  AlignedBuffer source(kFileBytes);
  AlignedBuffer target(kFileBytes);
  source.fill_randomly(14);
  const std::size_t piece = 2 * file->alignment();
  for (const OpKind kind : {OpKind::kWrite, OpKind::kRead}) {
    AlignedBuffer& buffer = kind == OpKind::kWrite ? source : target;
    std::vector<IoTicket> tickets;
    for (std::size_t at = 0; at < kFileBytes; at += piece) {
      tickets.push_back(queue->submit(operation(kind, at, buffer.span(at, piece))));
    }
    for (IoTicket& ticket : tickets) ticket.wait();
  }
  EXPECT_TRUE(target == source);
  EXPECT_EQ(queue->statistics().bytes_read, kFileBytes);
  EXPECT_EQ(queue->statistics().bytes_written, kFileBytes);
  EXPECT_EQ(queue->statistics().requests, 2 * kFileBytes / piece);
}

TEST_P(AioContract, TicketsBecomeDoneWithoutAnybodyWaiting) {
  AlignedBuffer buffer(kFileBytes);
  const IoTicket ticket = queue->submit(read_of(0, buffer.span()));
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!ticket.done() && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
  EXPECT_TRUE(ticket.done());
}

TEST_P(AioContract, AnsweringNotNowStartsNothing) {
  options.operations_max = 2;
  start();
  AlignedBuffer source(kFileBytes);
  source.fill_randomly(15);
  const std::size_t piece = 16 * kBlockBytes;
  std::vector<IoTicket> accepted;
  std::vector<bool> was_accepted;
  for (std::size_t at = 0; at < kFileBytes; at += piece) {
    std::optional<IoTicket> ticket = queue->try_submit(write_of(at, source.span(at, piece)));
    was_accepted.push_back(ticket.has_value());
    if (ticket) accepted.push_back(std::move(*ticket));
  }
  for (IoTicket& ticket : accepted) ticket.wait();
  EXPECT_EQ(queue->statistics().bytes_written, accepted.size() * piece);
  AlignedBuffer actual(kFileBytes);
  read_plainly(actual);
  for (std::size_t i = 0; i < was_accepted.size(); ++i) {
    EXPECT_EQ(support::same_bytes(actual.span(i * piece, piece), source.span(i * piece, piece)),
              was_accepted[i]);
  }
}

TEST_P(AioContract, DestroyingATicketWaitsForItsTransfer) {
  AlignedBuffer on_disk(kFileBytes);
  on_disk.fill_randomly(16);
  write_plainly(on_disk);
  AlignedBuffer target(kFileBytes);
  { const IoTicket dropped = queue->submit(read_of(0, target.span())); }
  EXPECT_TRUE(target == on_disk);
}

TEST_P(AioContract, OperationsBeyondTheFileAreRefused) {
  AlignedBuffer buffer(2 * kBlockBytes);
  for (const OpKind kind : {OpKind::kRead, OpKind::kWrite}) {
    const auto refuses = [&](std::uint64_t offset) {
      EXPECT_THROW((void)queue->try_submit(operation(kind, offset, buffer.span())), UsageError);
    };
    refuses(file->size());
    refuses(file->size() - kBlockBytes);
    refuses(~std::uint64_t{0} - kBlockBytes + 1);
  }
}

TEST_P(AioContract, MisalignedAndEmptyOperationsAreRefused) {
  AlignedBuffer buffer(2 * kBlockBytes);
  EXPECT_THROW((void)queue->submit(read_of(1, buffer.span(0, kBlockBytes))), UsageError);
  EXPECT_THROW((void)queue->submit(read_of(0, buffer.span(1, kBlockBytes))), UsageError);
  EXPECT_THROW((void)queue->submit(read_of(0, buffer.span(0, kBlockBytes - 1))), UsageError);
  EXPECT_THROW((void)queue->submit(read_of(0, buffer.span(0, 0))), UsageError);
}

TEST_P(AioContract, AFileTruncatedByOthersIsAnErrorThatNamesThePlace) {
  ASSERT_EQ(::ftruncate(file->fd(), kBlockBytes), 0);
  AlignedBuffer buffer(3 * kBlockBytes);
  IoTicket ticket = queue->submit(read_of(0, buffer.span()));
  try {
    ticket.wait();
    FAIL() << "bytes that do not exist were read";
  } catch (const IoError& error) {
    EXPECT_EQ(error.code(), 0);
    EXPECT_THAT(error.what(), testing::HasSubstr("read of " + file->path().string()));
    EXPECT_THAT(error.what(), testing::HasSubstr(", 65536 bytes: unexpected end of file"));
  }
}

/// Lowers this process's limit on file sizes for its own lifetime.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit lowered = before_;
    lowered.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &lowered);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
};

TEST_P(AioContract, AWriteBeyondALimitIsAnErrorAndNotTheEndOfTheProcess) {
  AlignedBuffer buffer(4 * kBlockBytes);
  std::string message;
  int code = 0;
  {
    const FileSizeLimit limit(2 * kBlockBytes);
    IoTicket ticket = queue->submit(write_of(kBlockBytes, buffer.span()));
    try {
      ticket.wait();
    } catch (const IoError& error) {
      message = error.what();
      code = error.code();
    }
  }
  EXPECT_EQ(code, EFBIG);
  EXPECT_THAT(message, testing::HasSubstr("write of " + file->path().string()));
  EXPECT_THAT(message, testing::HasSubstr("EFBIG"));
  EXPECT_THAT(message, testing::HasSubstr("ulimit -f"));
  queue->submit(write_of(kBlockBytes, buffer.span())).wait();
}

TEST_P(AioContract, AFailureConcernsItsOwnOperationOnly) {
  AlignedBuffer on_disk(kFileBytes);
  on_disk.fill_randomly(17);
  write_plainly(on_disk);
  ASSERT_EQ(::ftruncate(file->fd(), kFileBytes / 2), 0);
  AlignedBuffer target(kFileBytes);
  const std::size_t piece = 2 * kBlockBytes;
  std::vector<IoTicket> tickets;
  for (std::size_t at = 0; at < kFileBytes; at += piece) {
    tickets.push_back(queue->submit(read_of(at, target.span(at, piece))));
  }
  for (std::size_t i = 0; i < tickets.size(); ++i) {
    if (i < tickets.size() / 2) {
      EXPECT_NO_THROW(tickets[i].wait());
    } else {
      EXPECT_THROW(tickets[i].wait(), IoError);
    }
  }
  EXPECT_TRUE(support::same_bytes(target.span(0, kFileBytes / 2), on_disk.span(0, kFileBytes / 2)));
}

TEST_P(AioContract, ConcurrentSubmittersDoNotDisturbEachOther) {
  constexpr std::size_t kThreads = 4;
  constexpr std::size_t kRegionBytes = kFileBytes / kThreads;
  options.operations_max = 6;
  start();
  std::vector<std::string> faults(kThreads);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        AlignedBuffer source(kRegionBytes);
        AlignedBuffer target(kRegionBytes);
        const std::size_t piece = kRegionBytes / 8;
        for (std::uint64_t round = 0; round < 5; ++round) {
          source.fill_randomly(100 * t + round);
          for (const OpKind kind : {OpKind::kWrite, OpKind::kRead}) {
            AlignedBuffer& buffer = kind == OpKind::kWrite ? source : target;
            std::vector<IoTicket> tickets;
            for (std::size_t at = 0; at < kRegionBytes; at += piece) {
              tickets.push_back(
                  queue->submit(operation(kind, t * kRegionBytes + at, buffer.span(at, piece))));
            }
            for (IoTicket& ticket : tickets) ticket.wait();
          }
          if (!(source == target)) faults[t] = "round " + std::to_string(round);
        }
      });
    }
  }
  for (const std::string& fault : faults) EXPECT_EQ(fault, "");
}

TEST_P(AioContract, DestroyingTheQueueFinishesWhatWasAccepted) {
  AlignedBuffer source(kFileBytes);
  source.fill_randomly(21);
  std::vector<IoTicket> tickets;
  const std::size_t piece = 4 * kBlockBytes;
  for (std::size_t at = 0; at < kFileBytes; at += piece) {
    tickets.push_back(queue->submit(write_of(at, source.span(at, piece))));
  }
  queue.reset();
  AlignedBuffer actual(kFileBytes);
  read_plainly(actual);
  EXPECT_TRUE(actual == source);
  for (IoTicket& ticket : tickets) EXPECT_NO_THROW(ticket.wait());
}

TEST_P(AioContract, PreparationChangesNoByteWhetherItIsRefusedOrNot) {
  AlignedBuffer arena(kFileBytes);
  AlignedBuffer other(kFileBytes);
  AlignedBuffer on_disk(kFileBytes);
  std::mt19937_64 random(22);
  write_plainly(on_disk);
  // Twice, for what was forgotten may be registered again.
  for (int round = 0; round < 2; ++round) {
    const IoRegistration of_file = queue->register_file(*file);
    const IoRegistration of_memory = queue->register_memory(arena.span(0, kFileBytes / 2));
    for (int step = 0; step < 20; ++step) {
      AlignedBuffer& buffer = random() % 4 == 0 ? other : arena;
      const auto [offset, bytes] = random_piece(random, 5 * kBlockBytes);
      const std::uint64_t from = random_piece(random, bytes).first / 2;
      const std::span<std::byte> memory =
          buffer.span(from / file->alignment() * file->alignment(), bytes);
      std::ranges::fill(memory, static_cast<std::byte>(random()));
      queue->submit(write_of(offset, memory)).wait();
      std::ranges::copy(memory, on_disk.span(offset, bytes).begin());
      std::ranges::fill(memory, std::byte{0});
      queue->submit(read_of(offset, memory)).wait();
      ASSERT_TRUE(support::same_bytes(memory, on_disk.span(offset, bytes)));
    }
  }
  queue->submit(read_of(0, arena.span())).wait();
  EXPECT_TRUE(arena == on_disk);
}

TEST_P(AioContract, AChannelMovesTheSameBytesWithoutAThread) {
  AlignedBuffer source(kFileBytes);
  AlignedBuffer target(kFileBytes);
  source.fill_randomly(18);
  options.operations_max = 4;
  IoChannel channel(options, environment->directory(), log);
  const std::size_t piece = 3 * kBlockBytes + file->alignment();
  for (const OpKind kind : {OpKind::kWrite, OpKind::kRead}) {
    AlignedBuffer& buffer = kind == OpKind::kWrite ? source : target;
    std::array<IoOutcome, 3> outcomes;
    for (std::size_t at = 0; at < kFileBytes || channel.unfinished() > 0;) {
      const std::size_t bytes = std::min(piece, kFileBytes - at);
      if (bytes > 0 &&
          channel.try_submit(operation(kind, at, buffer.span(at, bytes)), /*tag=*/at)) {
        at += bytes;
        continue;
      }
      const std::size_t count = channel.reap(outcomes, std::chrono::seconds(30));
      ASSERT_GT(count, 0u);
      for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(outcomes[i].error, nullptr);
    }
  }
  EXPECT_TRUE(target == source);
  EXPECT_EQ(channel.statistics().bytes_read, kFileBytes);
  EXPECT_EQ(channel.statistics().bytes_written, kFileBytes);
}

TEST_P(AioContract, TheQueueMayBeMadeAndDestroyedManyTimes) {
  AlignedBuffer buffer(kBlockBytes);
  for (int round = 0; round < 20; ++round) {
    start();
    if (round % 2 == 0) queue->submit(read_of(0, buffer.span())).wait();
  }
}

}  // namespace strata::aio
