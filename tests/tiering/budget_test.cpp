#include "strata/tiering/budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"
#include "support/message_of.h"

namespace strata::tiering::budget_test {
namespace {

using support::message_of;
using testing::AllOf;
using testing::HasSubstr;

TEST(Budget, LendsUpToItsLimitAndNotAByteMore) {
  Budget budget(Tier::kHost, 100);
  const auto most = budget.try_reserve(99);
  ASSERT_TRUE(most);
  EXPECT_FALSE(budget.try_reserve(2));
  EXPECT_TRUE(budget.try_reserve(1));
  EXPECT_EQ(budget.used(), 99u);
}

TEST(Budget, GetsBytesBackWhenAReservationEnds) {
  Budget budget(Tier::kHost, 100);
  { const Reservation reservation = budget.reserve(60, "slots"); }
  EXPECT_EQ(budget.used(), 0u);
  EXPECT_EQ(budget.peak(), 60u);
}

TEST(Budget, FollowsAReservationThatMoves) {
  Budget budget(Tier::kHost, 100);
  Reservation first = budget.reserve(30, "a");
  Reservation second = budget.reserve(50, "b");
  first = std::move(second);
  EXPECT_EQ(budget.used(), 50u);
  EXPECT_EQ(first.bytes(), 50u);
  const Reservation third(std::move(first));
  EXPECT_EQ(budget.used(), 50u);
}

TEST(Budget, SaysWhatWasAskedHeldAndAllowedAndWhatWouldDo) {
  Budget budget(Tier::kHost, 4 << 20);
  const Reservation held = budget.reserve(3 << 20, "windows");
  EXPECT_THAT(message_of<BudgetError>(
                  [&] { const Reservation refused = budget.reserve(2 << 20, "staging slots"); }),
              AllOf(HasSubstr("host budget"), HasSubstr("staging slots"),
                    HasSubstr("2.00 MiB asked"), HasSubstr("3.00 MiB held"),
                    HasSubstr("4.00 MiB allowed"), HasSubstr("at least 5242880 bytes")));
  EXPECT_EQ(budget.used(), held.bytes());
}

TEST(Budget, WithoutALimitTakesAnything) {
  Budget budget(Tier::kNvme);
  const Reservation most = budget.reserve(Budget::kUnlimited - 1, "everything");
  EXPECT_TRUE(budget.try_reserve(1));
  EXPECT_FALSE(budget.try_reserve(2));  // no sum that wraps around
}

TEST(Budget, IsNeverExceededByThreadsThatCompete) {
  constexpr std::uint64_t kLimit = 1000;
  Budget budget(Tier::kHost, kLimit);
  std::atomic<std::uint64_t> held{0};
  std::atomic<bool> exceeded{false};
  const auto compete = [&](unsigned seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < 5000; ++i) {
      const std::uint64_t bytes = random() % 600;
      const auto reservation = budget.try_reserve(bytes);
      if (!reservation) continue;
      if (held.fetch_add(bytes) + bytes > kLimit) exceeded = true;
      held.fetch_sub(bytes);
    }
  };
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) threads.emplace_back(compete, seed);
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(exceeded);
  EXPECT_EQ(budget.used(), 0u);
  EXPECT_LE(budget.peak(), kLimit);
}

}  // namespace
}  // namespace strata::tiering::budget_test
