#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <new>
#include <sstream>
#include <vector>

#include "aio/aligned_buffer.h"
#include "strata/aio/io_queue.h"

namespace {
std::atomic<std::uint64_t> allocations{0};
}  // namespace

// Every allocation of the program comes through here.
void* operator new(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace strata::aio {
namespace {

TEST(IoQueueMemory, IsAllTakenWhenTheQueueIsMade) {
  constexpr std::size_t kBytes = 1 << 20;
  constexpr std::size_t kPiece = 128 << 10;
  for (const BackendKind kind : {BackendKind::kAuto, BackendKind::kThreads}) {
    const auto here = std::filesystem::current_path();
    std::ostringstream log_text;
    Logger log(log_text);
    IoQueue queue({.backend = kind, .block_bytes = 16 << 10, .depth = 8}, here, log);
    IoFile file = IoFile::create_scratch(here);
    file.preallocate(kBytes);
    AlignedBuffer buffer(kBytes);
    std::vector<IoTicket> tickets;
    tickets.reserve(kBytes / kPiece);

    const std::uint64_t before = allocations.load();
    for (int round = 0; round < 10; ++round) {
      for (const OpKind op : {OpKind::kWrite, OpKind::kRead}) {
        tickets.clear();
        for (std::size_t at = 0; at < kBytes; at += kPiece) {
          tickets.push_back(queue.submit({op, &file, at, buffer.span(at, kPiece)}));
        }
        for (IoTicket& ticket : tickets) ticket.wait();
      }
    }
    EXPECT_EQ(allocations.load(), before) << queue.description();
  }
}

}  // namespace
}  // namespace strata::aio
