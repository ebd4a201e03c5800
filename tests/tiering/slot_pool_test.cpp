#include "strata/tiering/slot_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <set>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::tiering::slot_pool_test {
namespace {

class SlotPoolTest : public testing::Test {
 protected:
  std::ostringstream log_text_;
  Logger log_{log_text_};
  Budget budget_{Tier::kHost};
  HostArena arena_{budget_, 64_MiB, log_};
};

TEST_F(SlotPoolTest, LendsEachSlotOnceAndThenSaysNotNow) {
  SlotPool slots(arena_, 3, 10'000);
  std::vector<StagingSlot> loans;
  std::set<std::byte*> addresses;
  while (auto slot = slots.try_acquire()) {
    EXPECT_EQ(slot->bytes().size(), 10'000u);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(slot->bytes().data()) % 4096, 0u);
    addresses.insert(slot->bytes().data());
    loans.push_back(std::move(*slot));
  }
  EXPECT_EQ(addresses.size(), 3u);
  EXPECT_EQ(slots.free_count(), 0u);
  loans.pop_back();
  EXPECT_EQ(slots.free_count(), 1u);
  EXPECT_TRUE(slots.try_acquire());
}

TEST_F(SlotPoolTest, KeepsSlotsApart) {
  SlotPool slots(arena_, 2, 4_KiB + 1);
  const auto a = slots.try_acquire();
  const auto b = slots.try_acquire();
  std::ranges::fill(a->bytes(), std::byte{0xaa});
  std::ranges::fill(b->bytes(), std::byte{0xbb});
  EXPECT_TRUE(std::ranges::all_of(a->bytes(), [](std::byte x) { return x == std::byte{0xaa}; }));
}

TEST_F(SlotPoolTest, NeverLendsASlotAgainThatATransferWasLostIn) {
  const auto lost = std::make_shared<aio::LostMemory>();
  arena_.heed(lost);
  SlotPool slots(arena_, 2, 4_KiB);
  auto first = slots.try_acquire();
  auto second = slots.try_acquire();
  lost->add(first->bytes());
  const std::byte* const other = second->bytes().data();
  first.reset();
  second.reset();
  EXPECT_EQ(slots.free_count(), 1u);
  auto again = slots.try_acquire();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->bytes().data(), other);
  EXPECT_FALSE(slots.try_acquire()) << "the other one is on loan";
  lost->add(again->bytes());
  again.reset();
  EXPECT_THROW((void)slots.try_acquire(), DeadlineExceeded) << "none will ever come back";
}

TEST_F(SlotPoolTest, FollowsASlotThatMoves) {
  SlotPool slots(arena_, 2, 4_KiB);
  auto first = slots.try_acquire();
  auto second = slots.try_acquire();
  *first = std::move(*second);
  EXPECT_EQ(slots.free_count(), 1u);
  first.reset();
  second.reset();
  EXPECT_EQ(slots.free_count(), 2u);
}

TEST_F(SlotPoolTest, ChargesItsSlotsRoundedUpToPages) {
  const SlotPool slots(arena_, 3, 10'000);
  EXPECT_EQ(budget_.used(), 3 * 12_KiB);
  EXPECT_THROW(SlotPool(arena_, 0, 4_KiB), UsageError);
  EXPECT_THROW(SlotPool(arena_, 1, 0), UsageError);
}

TEST_F(SlotPoolTest, GivesAThreadASlotOfItsOwn) {
  SlotPool slots(arena_, 2, 4_KiB);
  std::atomic<bool> shared{false};
  const auto use = [&](std::byte mark) {
    for (int i = 0; i < 2000; ++i) {
      const auto slot = slots.try_acquire();
      if (!slot) continue;
      std::ranges::fill(slot->bytes(), mark);
      if (std::ranges::any_of(slot->bytes(), [&](std::byte b) { return b != mark; })) shared = true;
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i <= 3; ++i) threads.emplace_back(use, static_cast<std::byte>(i));
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(shared);
  EXPECT_EQ(slots.free_count(), 2u);
}

}  // namespace
}  // namespace strata::tiering::slot_pool_test
