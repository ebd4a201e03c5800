#include "strata/tiering/region_allocator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "strata/base/error.h"
#include "strata/base/units.h"

namespace strata::tiering {
namespace {

constexpr std::uint64_t kPage = RegionAllocator::kAlignment;

/// Page-aligned memory that nobody writes to: the allocator keeps its books elsewhere.
class RegionAllocatorTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kPages = 64;
  struct alignas(kPage) Page {
    std::byte bytes[kPage];
  };
  std::unique_ptr<Page[]> pages_ = std::make_unique<Page[]>(kPages);
  std::span<std::byte> memory_{pages_[0].bytes, kPages* kPage};
};

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

TEST_F(RegionAllocatorTest, AgreesWithAMapOfPagesOverRandomCalls) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    RegionAllocator allocator(memory_);
    PageMap model(kPages);
    std::vector<std::span<std::byte>> regions;
    std::mt19937 random(seed);
    for (int i = 0; i < 2000; ++i) {
      if (random() % 2 == 0 || regions.empty()) {
        const std::uint64_t bytes = 1 + random() % (12 * kPage);
        const auto region = allocator.try_take(bytes);
        const auto start = model.take(ceil_div(bytes, kPage));
        ASSERT_EQ(region.has_value(), start.has_value()) << "seed " << seed << ", call " << i;
        if (!region) continue;
        ASSERT_EQ(region->data(), memory_.data() + *start * kPage);
        ASSERT_EQ(region->size(), round_up(bytes, kPage));
        regions.push_back(*region);
      } else {
        std::swap(regions[random() % regions.size()], regions.back());
        const auto region = regions.back();
        regions.pop_back();
        allocator.give_back(region);
        model.set(static_cast<std::size_t>(region.data() - memory_.data()) / kPage,
                  region.size() / kPage, false);
      }
      ASSERT_EQ(allocator.used(), model.used() * kPage);
    }
  }
}

TEST_F(RegionAllocatorTest, JoinsNeighboursSoThatTheWholeFitsAgain) {
  RegionAllocator allocator(memory_);
  std::vector<std::span<std::byte>> regions;
  while (const auto region = allocator.try_take(kPage)) regions.push_back(*region);
  EXPECT_EQ(regions.size(), kPages);
  for (std::size_t i = 0; i < regions.size(); i += 2) allocator.give_back(regions[i]);
  EXPECT_FALSE(allocator.try_take(2 * kPage));
  for (std::size_t i = 1; i < regions.size(); i += 2) allocator.give_back(regions[i]);
  EXPECT_EQ(allocator.used(), 0u);
  EXPECT_TRUE(allocator.try_take(allocator.capacity()));
}

TEST_F(RegionAllocatorTest, RefusesWhatItDidNotHandOut) {
  RegionAllocator allocator(memory_);
  const auto region = allocator.try_take(3 * kPage);
  ASSERT_TRUE(region);
  EXPECT_THROW(allocator.give_back(region->first(kPage)), UsageError);
  EXPECT_THROW(allocator.give_back(region->subspan(kPage)), UsageError);
  allocator.give_back(*region);
  EXPECT_THROW(allocator.give_back(*region), UsageError);
  EXPECT_FALSE(allocator.try_take(memory_.size() + 1));
  EXPECT_THROW(RegionAllocator(memory_.subspan(1)), UsageError);
}

}  // namespace
}  // namespace strata::tiering
