#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <sstream>
#include <vector>

#include "aio/aligned_buffer.h"
#include "aio/allocation_counter.h"
#include "strata/aio/io_queue.h"
#include "strata/base/error.h"

namespace strata::aio {
namespace {

TEST(IoQueueMemory, IsAllTakenWhenTheQueueIsMade) {
  constexpr std::size_t kBytes = 1 << 20;
  constexpr std::size_t kPiece = 128 << 10;
  const auto here = std::filesystem::current_path();
  std::ostringstream log_text;
  Logger log(log_text);
  for (const BackendKind kind : {BackendKind::kAuto, BackendKind::kLibaio, BackendKind::kThreads}) {
    std::optional<IoQueue> made;
    try {
      made.emplace(IoQueueOptions{.backend = kind, .block_bytes = 16 << 10, .depth = 8}, here, log);
    } catch (const IoError&) {
      continue;  // the kernel refuses this engine
    }
    IoQueue& queue = *made;
    IoFile file = IoFile::create_scratch(here);
    file.preallocate(kBytes);
    AlignedBuffer buffer(kBytes);
    std::vector<IoTicket> tickets;
    tickets.reserve(kBytes / kPiece);

    const std::uint64_t before = allocations_so_far();
    for (int round = 0; round < 10; ++round) {
      for (const OpKind op : {OpKind::kWrite, OpKind::kRead}) {
        tickets.clear();
        for (std::size_t at = 0; at < kBytes; at += kPiece) {
          tickets.push_back(queue.submit({op, &file, at, buffer.span(at, kPiece)}));
        }
        for (IoTicket& ticket : tickets) ticket.wait();
      }
    }
    EXPECT_EQ(allocations_so_far(), before) << queue.description();
  }
}

}  // namespace
}  // namespace strata::aio
