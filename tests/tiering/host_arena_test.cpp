#include "strata/tiering/host_arena.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "support/message_of.h"

namespace strata::tiering::host_arena_test {
namespace {

using support::message_of;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

#if defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kLarge = 16_GiB;  // its shadow memory has no room for more
#else
constexpr std::uint64_t kLarge = 1024_GiB;
#endif

class HostArenaTest : public testing::Test {
 protected:
  std::ostringstream log_text_;
  Logger log_{log_text_};
};

std::uint64_t remainder(std::span<std::byte> piece, std::uint64_t alignment) {
  return reinterpret_cast<std::uintptr_t>(piece.data()) % alignment;
}

/// Pages of the piece that have memory behind them.
std::uint64_t present_pages(std::span<std::byte> piece) {
  std::vector<unsigned char> present(ceil_div(piece.size(), 4096));
  EXPECT_EQ(mincore(piece.data(), piece.size(), present.data()), 0);
  return static_cast<std::uint64_t>(
      std::count_if(present.begin(), present.end(), [](unsigned char p) { return (p & 1) != 0; }));
}

bool is_mapped(std::span<std::byte> byte) {
  const auto page = reinterpret_cast<std::uintptr_t>(byte.data()) / 4096 * 4096;
  unsigned char present = 0;
  return mincore(reinterpret_cast<void*>(page), 4096, &present) == 0;
}

TEST_F(HostArenaTest, GivesZeroedWritableMemoryThatDoesNotOverlap) {
  Budget budget(Tier::kHost);
  HostArena arena(budget, 16_MiB, log_);
  const auto first = arena.take(10'000, "first");
  std::ranges::fill(first, std::byte{0xff});
  const auto second = arena.take(3_MiB, "second");
  EXPECT_EQ(first.size(), 10'000u);
  EXPECT_EQ(second.size(), 3_MiB);
  EXPECT_TRUE(std::ranges::all_of(second, [](std::byte b) { return b == std::byte{0}; }));
  std::ranges::fill(second, std::byte{0x11});
  EXPECT_TRUE(std::ranges::all_of(first, [](std::byte b) { return b == std::byte{0xff}; }));
}

TEST_F(HostArenaTest, LeavesMemoryMappedThatTheKernelMayStillWriteTo) {
  Budget budget(Tier::kHost);
  const auto lost = std::make_shared<aio::LostMemory>();
  std::span<std::byte> kept;
  std::span<std::byte> freed;
  {
    HostArena arena(budget, 16_MiB, log_);
    arena.heed(lost);
    freed = arena.take(64_KiB, "one that came back");
    const auto piece = arena.take(64_KiB, "one that did not");
    kept = piece.subspan(4_KiB, 8_KiB + 1);
    EXPECT_FALSE(arena.is_lost(piece));
    lost->add(kept);
    EXPECT_TRUE(arena.is_lost(piece));
    EXPECT_FALSE(arena.is_lost(freed));
    std::ranges::fill(kept, std::byte{7});
  }
  EXPECT_TRUE(is_mapped(kept.first(1)));
  EXPECT_TRUE(is_mapped(kept.last(1)));
  EXPECT_TRUE(std::ranges::all_of(kept, [](std::byte b) { return b == std::byte{7}; }));
  EXPECT_FALSE(is_mapped(freed.first(1)));
  EXPECT_FALSE(is_mapped({kept.data() - 4_KiB, 1})) << "only what was lost";
  EXPECT_FALSE(is_mapped({kept.data() + 12_KiB, 1}));
  munmap(kept.data(), 12_KiB);
}

TEST_F(HostArenaTest, AlignsPiecesToPagesAndLongOnesToHugePages) {
  Budget budget(Tier::kHost);
  HostArena arena(budget, 32_MiB, log_);
  for (const std::uint64_t bytes : {1_KiB, 2_MiB, 5_KiB, 3_MiB + 1, 4_KiB}) {
    const auto piece = arena.take(bytes, "piece");
    EXPECT_EQ(remainder(piece, bytes < 2_MiB ? 4_KiB : 2_MiB), 0u) << bytes;
  }
}

TEST_F(HostArenaTest, ChargesPagesExactlyAndNeverAPowerOfTwo) {
  Budget budget(Tier::kHost);
  {
    HostArena arena(budget, 16_MiB, log_);
    EXPECT_EQ(budget.used(), 0u) << "address space is not memory";
    (void)arena.take(1, "one byte");
    EXPECT_EQ(budget.used(), 4096u);
    (void)arena.take(5_MiB + 1, "an odd size");
    EXPECT_EQ(budget.used(), 4096u + 5_MiB + 4096u);
    EXPECT_EQ(arena.used(), budget.used());
  }
  EXPECT_EQ(budget.used(), 0u);
}

TEST_F(HostArenaTest, TakesItsWholeCapacityInAnySizes) {
  Budget budget(Tier::kHost);
  HostArena arena(budget, 8_MiB + 8_KiB, log_);
  (void)arena.take(4_KiB, "small");
  (void)arena.take(4_MiB, "large");
  (void)arena.take(4_KiB, "small");
  const auto last = arena.take(4_MiB, "large");
  std::ranges::fill(last, std::byte{1});
  EXPECT_EQ(arena.used(), 8_MiB + 8_KiB);
}

TEST_F(HostArenaTest, RefusesMoreThanTheBudgetAndNamesWhatFor) {
  Budget budget(Tier::kHost, 1_MiB);
  HostArena arena(budget, 16_MiB, log_);
  EXPECT_THAT(message_of<BudgetError>([&] { (void)arena.take(2_MiB, "optimizer windows"); }),
              AllOf(HasSubstr("host budget"), HasSubstr("optimizer windows")));
  EXPECT_EQ(arena.used(), 0u);
  EXPECT_EQ(arena.take(1_MiB, "what fits").size(), 1_MiB);
}

TEST_F(HostArenaTest, RefusesMoreThanItsCapacity) {
  Budget budget(Tier::kHost);
  HostArena arena(budget, 1_MiB, log_);
  (void)arena.take(1_MiB - 4_KiB, "most");
  EXPECT_THROW((void)arena.take(4_KiB + 1, "too much"), BudgetError);
  EXPECT_EQ(budget.used(), 1_MiB - 4_KiB);
  EXPECT_THROW((void)arena.take(0, "nothing"), UsageError);
}

TEST_F(HostArenaTest, CommitsMemoryWhenItIsTakenAndNotLater) {
  Budget budget(Tier::kHost);
  HostArena arena(budget, 64_MiB, log_);
  const auto piece = arena.take(5_MiB + 12_KiB, "piece");
  EXPECT_EQ(present_pages(piece), piece.size() / 4096);
}

TEST_F(HostArenaTest, ReservesALargeCapacityWithoutMemory) {
  Budget budget(Tier::kHost);
  HostArena arena(budget, kLarge, log_);
  EXPECT_EQ(arena.take(64_KiB, "a little of it").size(), 64_KiB);
  EXPECT_EQ(budget.used(), 64_KiB);
  EXPECT_THROW(HostArena(budget, Budget::kUnlimited, log_), UsageError);
}

TEST_F(HostArenaTest, SaysNothingOnTheCallersNodeAndOneLineWhenBindingFails) {
  Budget budget(Tier::kHost);
  const HostArena here(budget, 1_MiB, log_);
  EXPECT_THAT(log_text_.str(), IsEmpty());
  HostArena elsewhere(budget, 1_MiB, log_, 1000);
  EXPECT_THAT(log_text_.str(), HasSubstr("node 1000 does not exist"));
  EXPECT_EQ(elsewhere.take(4_KiB, "memory all the same").size(), 4_KiB);
}

}  // namespace
}  // namespace strata::tiering::host_arena_test
