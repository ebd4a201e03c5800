#include "zero3/freed_regions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "support/sim_device.h"

namespace strata::zero3::freed_regions_test {
namespace {

using testing::IsEmpty;
using tiering::Event;
using tiering::StreamRole;

class FreedRegionsTest : public testing::Test {
 protected:
  Event event() { return device_.record(StreamRole::kCompute); }

  support::SimDevice device_;
  FreedRegions freed_;
};

TEST_F(FreedRegionsTest, KeepNothingOfWhatIsOverFromTheStart) {
  freed_.add({0, 4096}, Event());
  EXPECT_THAT(freed_.take({0, 4096}), IsEmpty());
}

TEST_F(FreedRegionsTest, GiveTheEventsOfAPlaceOnce) {
  freed_.add({0, 4096}, event());
  EXPECT_THAT(freed_.take({4096, 4096}), IsEmpty());
  EXPECT_EQ(freed_.take({0, 4096}).size(), 1u);
  EXPECT_THAT(freed_.take({0, 4096}), IsEmpty());
}

TEST_F(FreedRegionsTest, AgreeWithABookOfPagesOverRandomCalls) {
  constexpr std::uint64_t kPages = 32;
  constexpr std::uint64_t kPage = 4096;
  std::mt19937 random(1);
  std::map<std::uint64_t, std::set<const void*>> pages;
  for (int call = 0; call < 5000; ++call) {
    const std::uint64_t first = random() % kPages;
    const std::uint64_t count = 1 + random() % (kPages - first);
    const tiering::Region region{first * kPage, count * kPage};
    if (random() % 2 == 0) {
      const Event last_use = event();
      freed_.add(region, last_use);
      for (std::uint64_t page = first; page < first + count; ++page) {
        pages[page].insert(last_use.state().get());
      }
    } else {
      std::set<const void*> expected;
      for (std::uint64_t page = first; page < first + count; ++page) {
        expected.merge(pages[page]);
        pages[page].clear();
      }
      std::set<const void*> actual;
      for (const Event& each : freed_.take(region)) actual.insert(each.state().get());
      ASSERT_EQ(actual, expected) << "call " << call;
    }
  }
}

}  // namespace
}  // namespace strata::zero3::freed_regions_test
