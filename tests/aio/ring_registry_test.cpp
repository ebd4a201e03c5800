#include "aio/ring_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <set>

#include "aio/aligned_buffer.h"
#include "strata/aio/io_file.h"
#include "strata/base/error.h"

namespace strata::aio::ring_registry_test {
namespace {

using testing::HasSubstr;

/// A registry that cuts memory into pieces of 64 KiB.
class RingRegistryTest : public testing::Test {
 protected:
  static constexpr std::size_t kPiece = 64 << 10;
  static constexpr int kNone = RingRegistry::kNone;

  void SetUp() override {
    const int result = io_uring_queue_init(4, &ring, 0);
    if (result < 0) GTEST_SKIP() << "io_uring: " << errno_name(-result);
    has_ring = true;
    const std::string refusal = registry.add_memory(buffer.span(0, kPiece));
    if (!refusal.empty()) GTEST_SKIP() << refusal;
    registry.remove_memory(buffer.span(0, kPiece));
  }
  void TearDown() override {
    if (has_ring) io_uring_queue_exit(&ring);
  }

  int slot_at(std::size_t offset, std::size_t bytes) {
    return registry.slot_of_memory(buffer.span().data() + offset, bytes);
  }

  /// Whether a read of the whole piece through its slot arrives.
  bool serves(int slot, std::size_t offset) {
    IoFile file = IoFile::create_scratch("/dev/shm");
    file.preallocate(kPiece);
    io_uring_sqe* entry = io_uring_get_sqe(&ring);
    io_uring_prep_read_fixed(entry, file.fd(), buffer.span().data() + offset, kPiece, 0, slot);
    io_uring_submit(&ring);
    io_uring_cqe* completion = nullptr;
    if (io_uring_wait_cqe(&ring, &completion) != 0) return false;
    const bool whole = completion->res == static_cast<int>(kPiece);
    io_uring_cqe_seen(&ring, completion);
    return whole;
  }

  io_uring ring{};
  bool has_ring = false;
  AlignedBuffer buffer{8 * kPiece};
  RingRegistry registry{ring, kPiece};
};

TEST_F(RingRegistryTest, FindsARequestThatLiesInsideOnePiece) {
  ASSERT_EQ(registry.add_memory(buffer.span(kPiece, 3 * kPiece)), "");
  std::set<int> slots;
  for (std::size_t i = 1; i <= 3; ++i) {
    const int slot = slot_at(i * kPiece, kPiece);
    ASSERT_NE(slot, kNone);
    EXPECT_TRUE(serves(slot, i * kPiece));
    EXPECT_EQ(slot_at(i * kPiece + 4096, 4096), slot);
    slots.insert(slot);
  }
  EXPECT_EQ(slots.size(), 3u);
}

TEST_F(RingRegistryTest, FindsNothingForARequestAcrossACutOrOutside) {
  ASSERT_EQ(registry.add_memory(buffer.span(kPiece, 2 * kPiece + 4096)), "");
  EXPECT_EQ(slot_at(2 * kPiece - 4096, 8192), kNone);
  EXPECT_EQ(slot_at(0, 4096), kNone);
  EXPECT_EQ(slot_at(kPiece - 4096, 8192), kNone);
  EXPECT_NE(slot_at(3 * kPiece, 4096), kNone);
  EXPECT_EQ(slot_at(3 * kPiece, 8192), kNone);
  EXPECT_EQ(slot_at(4 * kPiece, 4096), kNone);
}

TEST_F(RingRegistryTest, KeepsSeveralRangesApartWhateverTheirOrder) {
  for (const std::size_t at : {4, 0, 6, 2}) {
    ASSERT_EQ(registry.add_memory(buffer.span(at * kPiece, kPiece)), "");
  }
  registry.remove_memory(buffer.span(4 * kPiece, kPiece));
  for (std::size_t at = 0; at < 8; ++at) {
    const int slot = slot_at(at * kPiece, kPiece);
    if (at % 2 == 1 || at == 4) {
      EXPECT_EQ(slot, kNone) << at;
    } else {
      EXPECT_TRUE(slot != kNone && serves(slot, at * kPiece)) << at;
    }
  }
}

TEST_F(RingRegistryTest, RefusesOverlapsAndLeavesWhatIsThere) {
  ASSERT_EQ(registry.add_memory(buffer.span(2 * kPiece, 2 * kPiece)), "");
  for (const std::size_t at : {1, 2, 3}) {
    const auto overlapping = buffer.span(at * kPiece, 2 * kPiece);
    EXPECT_THAT(registry.add_memory(overlapping), HasSubstr("overlaps"));
  }
  registry.remove_memory(buffer.span(3 * kPiece, 2 * kPiece));
  EXPECT_NE(slot_at(2 * kPiece, kPiece), kNone);
  EXPECT_NE(slot_at(3 * kPiece, kPiece), kNone);
  EXPECT_EQ(registry.add_memory(buffer.span(kPiece, kPiece)), "");
  EXPECT_EQ(registry.add_memory(buffer.span(4 * kPiece, kPiece)), "");
}

TEST_F(RingRegistryTest, UsesSlotsAgainForEver) {
  for (std::uint32_t round = 0; round < 2 * RingRegistry::kPiecesMax; ++round) {
    ASSERT_EQ(registry.add_memory(buffer.span()), "") << round;
    registry.remove_memory(buffer.span());
  }
  EXPECT_EQ(slot_at(0, 4096), kNone);
}

TEST_F(RingRegistryTest, RefusesMoreMemoryThanTheTableHolds) {
  RingRegistry fine(ring, 512);
  io_uring_unregister_buffers(&ring);  // the table of the other registry
  AlignedBuffer large(RingRegistry::kPiecesMax * 512 + 4096);
  EXPECT_THAT(fine.add_memory(large.span()), HasSubstr("at most 512 KiB"));
  EXPECT_THAT(fine.add_memory({}), HasSubstr("no memory"));
}

TEST_F(RingRegistryTest, HoldsOnToFilesUntilTheyAreRemoved) {
  IoFile first = IoFile::create_scratch("/dev/shm");
  IoFile second = IoFile::create_scratch("/dev/shm");
  ASSERT_EQ(registry.add_file(second.fd()), "");
  ASSERT_EQ(registry.add_file(first.fd()), "");
  EXPECT_NE(registry.slot_of_file(first.fd()), registry.slot_of_file(second.fd()));
  EXPECT_THAT(registry.add_file(first.fd()), HasSubstr("already"));
  registry.remove_file(first.fd());
  EXPECT_EQ(registry.slot_of_file(first.fd()), kNone);
  EXPECT_NE(registry.slot_of_file(second.fd()), kNone);
  EXPECT_THAT(registry.add_file(1'000'000), HasSubstr("EBADF"));
}

}  // namespace
}  // namespace strata::aio::ring_registry_test
