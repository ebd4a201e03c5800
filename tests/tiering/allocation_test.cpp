#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "aio/allocation_counter.h"
#include "tiering/store_fixture.h"

namespace strata::tiering::allocation_test {
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
  const std::uint64_t before = aio::allocations_so_far();
  round_trip(extent);
  EXPECT_EQ(aio::allocations_so_far(), before);
}

TEST_F(AllocationTest, MovingChunksToAnotherDirectoryAllocatesNothing) {
  const Extent extent = store_.allocate(64 * kChunk, "blocks.3 m");
  round_trip(extent);
  const std::uint64_t on_first = store_.directories()[0].chunks;
  const std::vector<aio::PathBandwidth> bandwidths{{4e9, 4e9}, {3e9, 3e9}, {3e9, 3e9}};
  store_.set_bandwidths(bandwidths);
  const std::uint64_t before = aio::allocations_so_far();
  round_trip(extent);
  EXPECT_EQ(aio::allocations_so_far(), before);
  EXPECT_GT(store_.directories()[0].chunks, on_first);
}

}  // namespace
}  // namespace strata::tiering::allocation_test
