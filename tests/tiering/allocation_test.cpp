#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <utility>

#include "tiering/store_fixture.h"

// A program of its own: it replaces operator new to see every allocation of every thread.

namespace {
std::atomic<std::uint64_t> allocations{0};
}  // namespace

void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace strata::tiering {
namespace {

class AllocationTest : public StoreTest {
 protected:
  AllocationTest() : StoreTest(3, 16) {}

  /// Flushes and fetches the whole extent in ranges of two chunks, two under way.
  void round_trip(Extent extent) {
    for (std::uint64_t offset = 0; offset < extent.bytes; offset += 4 * kChunk) {
      for (const auto move : {flush, fetch}) {
        auto first = move(store_, extent, {offset, 2 * kChunk}, buffer_);
        auto second =
            move(store_, extent, {offset + 2 * kChunk, 2 * kChunk}, buffer_.subspan(2 * kChunk));
        first->wait();
        second->wait();
      }
    }
  }
};

TEST_F(AllocationTest, ATransferAllocatesNothingOnceTheStoreIsWarm) {
  const Extent extent = store_.allocate(64 * kChunk, "blocks.3 m");
  round_trip(extent);
  const std::uint64_t before = allocations;
  round_trip(extent);
  EXPECT_EQ(allocations, before);
}

}  // namespace
}  // namespace strata::tiering
