#include "strata/tiering/region_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::tiering::region_map_test {
namespace {

constexpr std::uint64_t kPage = RegionMap::kAlignment;

constexpr std::uint64_t kPages = 64;

/// First fit over an array of pages, by looking at every page.
class PageMap {
 public:
  explicit PageMap(std::size_t pages) : taken_(pages, false) {}

  std::optional<std::size_t> take(std::size_t pages) {
    for (std::size_t start = 0; start + pages <= taken_.size(); ++start) {
      const auto begin = taken_.begin() + static_cast<std::ptrdiff_t>(start);
      if (std::find(begin, begin + static_cast<std::ptrdiff_t>(pages), true) ==
          begin + static_cast<std::ptrdiff_t>(pages)) {
        set(start, pages, true);
        return start;
      }
    }
    return std::nullopt;
  }
  void set(std::size_t start, std::size_t pages, bool value) {
    std::fill_n(taken_.begin() + static_cast<std::ptrdiff_t>(start), pages, value);
  }
  [[nodiscard]] std::size_t used() const {
    return static_cast<std::size_t>(std::count(taken_.begin(), taken_.end(), true));
  }

 private:
  std::vector<bool> taken_;
};

TEST(RegionMap, AgreesWithAMapOfPagesOverRandomCalls) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    RegionMap map(kPages * kPage);
    PageMap model(kPages);
    std::vector<Region> regions;
    std::mt19937 random(seed);
    for (int i = 0; i < 2000; ++i) {
      if (random() % 2 == 0 || regions.empty()) {
        const std::uint64_t bytes = 1 + random() % (12 * kPage);
        const auto region = map.try_take(bytes);
        const auto start = model.take(ceil_div(bytes, kPage));
        ASSERT_EQ(region.has_value(), start.has_value()) << "seed " << seed << ", call " << i;
        if (!region) continue;
        ASSERT_EQ(region->offset, *start * kPage);
        ASSERT_EQ(region->bytes, round_up(bytes, kPage));
        regions.push_back(*region);
      } else {
        std::swap(regions[random() % regions.size()], regions.back());
        const auto region = regions.back();
        regions.pop_back();
        map.give_back(region);
        model.set(region.offset / kPage, region.bytes / kPage, false);
      }
      ASSERT_EQ(map.used(), model.used() * kPage);
    }
  }
}

TEST(RegionMap, HandsOutWhatWasAddedAndJoinsItWithItsNeighbours) {
  RegionMap map;
  EXPECT_FALSE(map.try_take(1));
  map.add({.offset = 8 * kPage, .bytes = 2 * kPage});
  EXPECT_FALSE(map.try_take(3 * kPage));
  map.add({.offset = 10 * kPage, .bytes = kPage});
  map.add({.offset = 2 * kPage, .bytes = kPage});
  EXPECT_EQ(map.capacity(), 4 * kPage);
  EXPECT_EQ(map.try_take(3 * kPage), (Region{8 * kPage, 3 * kPage}));
  EXPECT_EQ(map.try_take(1), (Region{2 * kPage, kPage}));
  EXPECT_EQ(map.used(), map.capacity());
  EXPECT_THROW(map.add({.offset = 1, .bytes = kPage}), UsageError);
  EXPECT_THROW(map.add({.offset = 0, .bytes = 1}), UsageError);
}

TEST(RegionMap, JoinsNeighboursSoThatTheWholeFitsAgain) {
  RegionMap map(kPages * kPage);
  std::vector<Region> regions;
  while (const auto region = map.try_take(kPage)) regions.push_back(*region);
  EXPECT_EQ(regions.size(), kPages);
  for (std::size_t i = 0; i < regions.size(); i += 2) map.give_back(regions[i]);
  EXPECT_FALSE(map.try_take(2 * kPage));
  for (std::size_t i = 1; i < regions.size(); i += 2) map.give_back(regions[i]);
  EXPECT_EQ(map.used(), 0u);
  EXPECT_TRUE(map.try_take(map.capacity()));
}

TEST(RegionMap, SaysWhetherARegionWouldFitBesideWhatIsKept) {
  RegionMap map(10 * kPage);
  const Region low{kPage, 2 * kPage};
  const Region high{7 * kPage, kPage};  // free stretches of 1, 4 and 2 pages
  EXPECT_TRUE(map.would_fit_beside(std::vector<Region>{high, low}, 4 * kPage));
  EXPECT_FALSE(map.would_fit_beside(std::vector<Region>{high, low}, 4 * kPage + 1));
  EXPECT_TRUE(map.would_fit_beside({}, 10 * kPage));
  EXPECT_FALSE(map.would_fit_beside({}, UINT64_MAX));
}

TEST(RegionMap, RefusesWhatItDidNotHandOut) {
  RegionMap map(kPages * kPage);
  const auto region = map.try_take(3 * kPage);
  ASSERT_TRUE(region);
  EXPECT_THROW(map.give_back({region->offset, kPage}), UsageError);
  EXPECT_THROW(map.give_back({region->offset + kPage, 2 * kPage}), UsageError);
  map.give_back(*region);
  EXPECT_THROW(map.give_back(*region), UsageError);
  EXPECT_FALSE(map.try_take(kPages * kPage + 1));
}

}  // namespace
}  // namespace strata::tiering::region_map_test
