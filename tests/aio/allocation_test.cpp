#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <sstream>
#include <vector>

#include "aio/aligned_buffer.h"
#include "aio/allocation_counter.h"
#include "strata/aio/io_channel.h"
#include "strata/aio/io_queue.h"
#include "strata/base/error.h"

namespace strata::aio::allocation_test {
namespace {

/// Counts what the transfers of a queue or a channel allocate, by engine.
class AioMemory : public testing::TestWithParam<IoBackend> {
 protected:
  static constexpr std::size_t kBytes = 1 << 20;
  static constexpr std::size_t kPiece = 128 << 10;
  static constexpr std::size_t kPieces = kBytes / kPiece;
  static constexpr int kRounds = 10;

  void SetUp() override {
    file.preallocate(kBytes);
    try {
      const IoQueue queue(options, here, log);
    } catch (const IoError& error) {
      GTEST_SKIP() << "the kernel refuses this engine: " << error.what();
    }
  }

  Operation piece(OpKind kind, std::size_t index) {
    return {kind, &file, index * kPiece, buffer.span(index * kPiece, kPiece)};
  }

  const std::filesystem::path here = std::filesystem::current_path();
  std::ostringstream log_text;
  Logger log{log_text};
  IoFile file = IoFile::create_scratch(here);
  AlignedBuffer buffer{kBytes};
  IoQueueOptions options{.backend = GetParam(), .block_bytes = 16 << 10, .depth = 8};
};

TEST_P(AioMemory, OfAQueueIsAllTakenWhenItIsMadeAndPrepared) {
  IoQueue queue(options, here, log);
  // Half of it, so that requests go both ways.
  const IoRegistration of_memory = queue.register_memory(buffer.span(0, kBytes / 2));
  const IoRegistration of_file = queue.register_file(file);
  std::vector<IoTicket> tickets;
  tickets.reserve(kPieces);

  const std::uint64_t before = allocations_so_far();
  for (int round = 0; round < kRounds; ++round) {
    for (const OpKind kind : {OpKind::kWrite, OpKind::kRead}) {
      tickets.clear();
      for (std::size_t i = 0; i < kPieces; ++i) tickets.push_back(queue.submit(piece(kind, i)));
      for (IoTicket& ticket : tickets) ticket.wait();
    }
  }
  EXPECT_EQ(allocations_so_far(), before) << queue.description();
}

TEST_P(AioMemory, OfAChannelIsAllTakenWhenItIsMadeAndPrepared) {
  IoChannel channel(options, here, log);
  const IoRegistration of_memory = channel.register_memory(buffer.span(0, kBytes / 2));
  const IoRegistration of_file = channel.register_file(file);
  std::array<IoOutcome, 3> outcomes;

  const std::uint64_t before = allocations_so_far();
  for (int round = 0; round < kRounds; ++round) {
    for (const OpKind kind : {OpKind::kWrite, OpKind::kRead}) {
      for (std::size_t i = 0; i < kPieces; ++i) ASSERT_TRUE(channel.try_submit(piece(kind, i), i));
      while (channel.unfinished() > 0) {
        ASSERT_GT(channel.reap(outcomes, std::chrono::seconds(30)), 0u);
      }
    }
  }
  EXPECT_EQ(allocations_so_far(), before) << channel.description();
}

INSTANTIATE_TEST_SUITE_P(Engines, AioMemory,
                         testing::Values(IoBackend::kAuto, IoBackend::kLibaio, IoBackend::kThreads),
                         [](const auto& test) {
                           return test.param == IoBackend::kAuto     ? "auto"
                                  : test.param == IoBackend::kLibaio ? "libaio"
                                                                     : "threads";
                         });

}  // namespace
}  // namespace strata::aio::allocation_test
